// Ops that touch each value once: embedding, quantise, add, activate, gather, rotary tables and rotation.

namespace lepton::LEPTON_ISA {

constexpr int64_t kRowsPerChunk = 4;

static inline Chunks row_chunks(int64_t rows) { return {(rows + kRowsPerChunk - 1) / kRowsPerChunk, rows > kRowBlock}; }

static Chunks embedding_chunks(const OpRecord&, const Step& step) { return row_chunks(step.num_tokens); }

// One channel of a panel as f32: the same products and sums as a lane of unpack_float.
template <PanelKind KIND>
static void embedding_row(const PanelMatrix& table, int32_t id, float scale, float* y) {
  constexpr bool quantized = !is_wide(KIND);
  const uint8_t* panel = table.panel(id / kPanelWidth);
  const int lane = id % kPanelWidth;
  const int64_t total = num_groups(table.num_inputs);
  alignas(64) float weights[kGroup * kPanelWidth];
  Scales<KIND> scales;
  for (int64_t first = 0; first < total; first += kBlockGroups, panel += block_bytes(KIND)) {
    const int groups = static_cast<int>(min64(kBlockGroups, total - first));
    if constexpr (quantized) expand_scales<KIND>(panel, groups, scales);
    for (int g = 0; g < groups; ++g) {
      const float* w = unpack_float<KIND>(panel, scales, g, weights);
      const int64_t begin = (first + g) * kGroup;
      for (int64_t i = 0; i < min64(kGroup, table.num_inputs - begin); ++i)
        y[begin + i] = w[i * kPanelWidth + lane] * scale;
    }
  }
}

static void embedding_run(const OpRecord& record, const Step& step, int64_t chunk, Scratch) {
  const EmbeddingOp& op = record.embedding;
  const int32_t* ids = op.source == IdSource::TokenIds    ? step.token_ids
                       : op.source == IdSource::Positions ? step.positions
                                                          : step.token_type_ids;
  for (int64_t t = chunk * kRowsPerChunk; t < min64(step.num_tokens, (chunk + 1) * kRowsPerChunk); ++t) {
    float* y = op.y.row(step, t);
    const int32_t id = op.first_row + (ids ? ids[t] : 0);
#define LEPTON_KIND(kind) \
  case PanelKind::kind: embedding_row<PanelKind::kind>(op.table, id, op.scale, y); break;
    switch (op.table.kind) {
      LEPTON_VALUE_PANEL_KINDS(LEPTON_KIND)
      case PanelKind::R8:
      case PanelKind::R8Row: break;  // no table is rotated
    }
#undef LEPTON_KIND
  }
}

static Chunks rope_table_chunks(const OpRecord&, const Step& step) { return row_chunks(step.num_tokens); }

static void rope_table_run(const OpRecord& record, const Step& step, int64_t chunk, Scratch) {
  const RopeTableOp& op = record.rope_table;
  for (int64_t t = chunk * kRowsPerChunk; t < min64(step.num_tokens, (chunk + 1) * kRowsPerChunk); ++t) {
    float* y = op.y.row(step, t);
    for (int i = 0; i < op.num_frequencies; ++i) {
      const double angle = static_cast<float>(step.positions[t]) * op.inverse_frequencies[i];
      double sine, cosine;
      __builtin_sincos(angle, &sine, &cosine);
      y[i] = static_cast<float>(cosine) * op.scale;
      y[op.num_frequencies + i] = static_cast<float>(sine) * op.scale;
    }
  }
}

static Chunks quantize_chunks(const OpRecord& record, const Step& step) {
  return row_chunks(step.rows(record.quantize.rows));
}

static void quantize_run(const OpRecord& record, const Step& step, int64_t chunk, Scratch scratch) {
  const QuantizeOp& op = record.quantize;
  float* room = reinterpret_cast<float*>(scratch.data);
  for (int64_t r = chunk * kRowsPerChunk; r < min64(step.rows(op.rows), (chunk + 1) * kRowsPerChunk); ++r)
    quantize_row(op.x.row(step, r), room, op.y.row<uint8_t>(step, r), op.size, op.y_type);
}

static Chunks add_chunks(const OpRecord& record, const Step& step) { return row_chunks(step.rows(record.add.rows)); }

static void add_run(const OpRecord& record, const Step& step, int64_t chunk, Scratch) {
  const AddOp& op = record.add;
  for (int64_t r = chunk * kRowsPerChunk; r < min64(step.rows(op.rows), (chunk + 1) * kRowsPerChunk); ++r) {
    const float* a = op.a.row(step, r);
    const float* b = op.b.row(step, r);
    float* y = op.y.row(step, r);
    int i = 0;
    for (; i + W <= op.size; i += W) store(y + i, load(a + i) + load(b + i));
    for (; i < op.size; ++i) y[i] = a[i] + b[i];
  }
}

static Chunks activate_chunks(const OpRecord& record, const Step& step) {
  return row_chunks(step.rows(record.activate.rows));
}

// y = KIND(x) [* factor]; y may be x or factor.
template <Activation KIND>
static void activate_row(const float* x, const float* factor, int32_t size, float* y) {
  int i = 0;
  if (factor)
    for (; i + W <= size; i += W) store(y + i, activated<KIND>(load(x + i)) * load(factor + i));
  else
    for (; i + W <= size; i += W) store(y + i, activated<KIND>(load(x + i)));
  if (i == size) return;
  float lanes[W] = {};
  for (int j = 0; i + j < size; ++j) lanes[j] = x[i + j];
  store(lanes, activated<KIND>(load(lanes)));
  for (int j = 0; i + j < size; ++j) y[i + j] = factor ? lanes[j] * factor[i + j] : lanes[j];
}

static void activate_run(const OpRecord& record, const Step& step, int64_t chunk, Scratch scratch) {
  const ActivateOp& op = record.activate;
  const auto run_row = LEPTON_FOR_ACTIVATION(op.kind, activate_row);
  for (int64_t r = chunk * kRowsPerChunk; r < min64(step.rows(op.rows), (chunk + 1) * kRowsPerChunk); ++r) {
    float* y = op.y_type != RowType::F32 ? reinterpret_cast<float*>(scratch.data) : op.y.row(step, r);
    run_row(op.x.row(step, r), op.has_factor ? op.factor.row(step, r) : nullptr, op.size, y);
    if (op.y_type != RowType::F32) quantize_row(y, y, op.y.row<uint8_t>(step, r), op.size, op.y_type);
  }
}

static Chunks gather_rows_chunks(const OpRecord&, const Step& step) { return row_chunks(step.num_rows); }

static void gather_rows_run(const OpRecord& record, const Step& step, int64_t chunk, Scratch) {
  const GatherRowsOp& op = record.gather_rows;
  for (int64_t r = chunk * kRowsPerChunk; r < min64(step.num_rows, (chunk + 1) * kRowsPerChunk); ++r)
    __builtin_memcpy(op.y.row(step, r), op.x.row(step, step.logit_rows[r]), sizeof(float) * op.size);
}

// Pairs (x[2i], x[2i + 1]) and (x[i], x[i + half]), rotated; every ISA rounds each product and each sum.
static inline void rotate_neighbours(const float* x, const float* cosine, const float* sine, int half, float* y) {
  alignas(64) static const float signs[16] = {-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1};
  int i = 0;
  for (; i + W / 2 <= half; i += W / 2) {
    const VF pair = load(x + 2 * i);
    store(y + 2 * i, pair * load_twice(cosine + i) + swap_lanes<1>(pair) * load(signs) * load_twice(sine + i));
  }
  for (; i < half; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    y[2 * i] = a * cosine[i] - b * sine[i];
    y[2 * i + 1] = b * cosine[i] + a * sine[i];
  }
}

static inline void rotate_halves(const float* x, const float* cosine, const float* sine, int half, float* y) {
  for (int i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    y[i] = a * cosine[i] - b * sine[i];
    y[i + half] = b * cosine[i] + a * sine[i];
  }
}

// Rotates the first 2 * `half` values of one head by angles whose cosines and sines are table[0 ... 2 * half - 1].
static inline void rotate_head(const float* x, const float* table, int half, int head_dim, bool interleaved, float* y) {
  if (interleaved)
    rotate_neighbours(x, table, table + half, half, y);
  else
    rotate_halves(x, table, table + half, half, y);
  for (int i = 2 * half; i < head_dim; ++i) y[i] = x[i];
}

static Chunks rope_chunks(const OpRecord&, const Step& step) { return row_chunks(step.num_tokens); }

static void rope_run(const OpRecord& record, const Step& step, int64_t chunk, Scratch) {
  const RopeOp& op = record.rope;
  for (int64_t t = chunk * kRowsPerChunk; t < min64(step.num_tokens, (chunk + 1) * kRowsPerChunk); ++t)
    for (int h = 0; h < op.num_heads; ++h)
      rotate_head(op.x.row(step, t) + h * op.head_dim, op.table.row(step, t), op.half_rotary, op.head_dim,
                  op.interleaved, op.y.row(step, t) + h * op.head_dim);
}

}  // namespace lepton::LEPTON_ISA
