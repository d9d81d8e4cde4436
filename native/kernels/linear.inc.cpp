// linear, activated_linear and gated_linear: panels times rows, then bias, activation and quantisation while the sums
// are in L1.

namespace lepton::LEPTON_ISA {

constexpr int kFewRows = 16;
#ifdef LEPTON_TILES
constexpr Tuning kTuning{.row_block = 8 * kTileHeight, .min_tile_rows = kMinTileRows};
#else
constexpr Tuning kTuning{};
#endif
constexpr int kRowBlock = kTuning.row_block;  // more rows than this are in the order of rows, whatever the op

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

// A unit is what one task computes. Activated: the panels of each segment that are quantised together, a group of 32
// outputs or the 128 of a rotation. Else a panel, or as many as a tile holds when the rows fill tiles.
static int panels_per_unit(const LinearOp& op, int64_t rows) {
  if (op.activated) return (op.y_type == RowType::R8 ? kRotation : kGroup) / kPanelWidth;
  return rows > kPackedRows ? kTilePanels : 1;
}

static int64_t segment_units(const PanelMatrix& m, int per_unit) {
  return (num_panels(m.num_outputs) + per_unit - 1) / per_unit;
}

static int64_t linear_units(const LinearOp& op, int per_unit) {
  if (op.activated) return segment_units(op.segments[0], per_unit);
  int64_t total = 0;
  for (int s = 0; s < op.num_segments; ++s) total += segment_units(op.segments[s], per_unit);
  return total;
}

// How units are cut into chunks. Few rows read weights once, as fast as memory gives them: each thread's first chunk is
// a long run of panels, and only the rest is cut small, to balance. Many rows: a chunk is one unit for one row block.
struct LinearChunks {
  int64_t units, first, small;  // units in all, in each thread's first chunk, in each later one
  int64_t threads, row_blocks;
  int per_unit;  // panels

  LinearChunks(const LinearOp& op, const Step& step) : threads(step.num_threads) {
    const int64_t rows = step.rows(op.rows);
    per_unit = panels_per_unit(op, rows);
    units = linear_units(op, per_unit);
    row_blocks = (rows + step.tuning.row_block - 1) / step.tuning.row_block;
    const bool is_few = rows <= kFewRows;
    first = is_few ? units * step.tuning.first_eighths / (8 * threads) : 0;
    small = is_few ? units / (step.tuning.rest_chunks * threads) : 1;
    if (small < 1) small = 1;
  }
  int64_t unit_chunks() const {
    const int64_t rest = units - first * threads;
    return (first ? threads : 0) + (rest + small - 1) / small;
  }
  int64_t total() const { return unit_chunks() * row_blocks; }
  // Units [begin, end) of a chunk within its row block.
  void range(int64_t chunk, int64_t* begin, int64_t* end) const {
    if (first && chunk < threads) {
      *begin = chunk * first;
      *end = *begin + first;
    } else {
      *begin = first * threads + (chunk - (first ? threads : 0)) * small;
      *end = min64(*begin + small, units);
    }
  }
};

static Chunks linear_chunks(const OpRecord& record, const Step& step) {
  const LinearChunks chunks(record.linear, step);
  return {chunks.total(), chunks.row_blocks > 1};
}

// A unit for some rows, as its epilogue sees it: sums[segment][panel][row][16], panels `stride` floats apart.
struct LinearTask {
  const LinearOp& op;
  const Step& step;
  int segment;
  int64_t panel;  // the first of `count`
  int count;
  int64_t row;  // the first in the step
  float* sums;
  int64_t stride;
};

// The biases of a panel's channels; zeros past the end, and where there are none.
struct PanelBias {
  VF values[kParts];
};

static inline PanelBias panel_bias(const PanelMatrix& m, int64_t panel) {
  const int64_t first = panel * kPanelWidth;
  alignas(64) float padded[kPanelWidth] = {};
  if (m.bias) __builtin_memcpy(padded, m.bias + first, sizeof(float) * min64(kPanelWidth, m.num_outputs - first));
  PanelBias bias;
  for (int p = 0; p < kParts; ++p) bias.values[p] = load(padded + p * W);
  return bias;
}

// Those of all panels of a unit, for each segment.
struct UnitBiases {
  PanelBias panels[2][kRotation / kPanelWidth];
};

static inline UnitBiases unit_biases(const LinearTask& t) {
  UnitBiases biases;
  for (int s = 0; s < t.op.num_segments; ++s)
    for (int n = 0; n < t.count; ++n) biases.panels[s][n] = panel_bias(t.op.segments[s], t.panel + n);
  return biases;
}

static void finish_plain(const void* task, int first_row, int num_rows) {
  const LinearTask& t = *static_cast<const LinearTask*>(task);
  const PanelMatrix& m = t.op.segments[t.segment];
  const Buffer& y = t.op.y[t.segment];
  for (int n = 0; n < t.count; ++n) {
    const PanelBias bias = panel_bias(m, t.panel + n);
    const int64_t first = (t.panel + n) * kPanelWidth, width = min64(kPanelWidth, m.num_outputs - first);
    const float* sums = t.sums + n * t.stride;
    for (int r = first_row; r < first_row + num_rows; ++r) {
      float* to = y.row(t.step, t.row + r) + first;
      __builtin_prefetch(y.row(t.step, t.row + r + num_rows) + first, 1);  // where the next rows will go
      alignas(64) float values[kPanelWidth];
      float* at = width == kPanelWidth ? to : values;
      for (int p = 0; p < kParts; ++p) store(at + p * W, load(sums + r * kPanelWidth + p * W) + bias.values[p]);
      if (at != to) __builtin_memcpy(to, values, sizeof(float) * width);
    }
  }
}

// KIND(product) or KIND(gate) * up of W channels, number `p` of panel `n` of a unit, for one row of the task. COARSE:
// as codes may be made of.
template <Activation KIND, bool COARSE>
static inline LEPTON_INLINE VF activate_sums(const LinearTask& t, const UnitBiases& biases, int row, int n, int p) {
  const float* sums = t.sums + n * t.stride + row * kPanelWidth + p * W;
  const VF x = load(sums) + biases.panels[0][n].values[p];
  const VF active = COARSE ? coarsely_activated<KIND>(x) : activated<KIND>(x);
  if (t.op.num_segments == 1) return active;
  return active * (load(sums + t.count * t.stride) + biases.panels[1][n].values[p]);
}

// Channels past the end have zero weights, and KIND(0) is the zero that pads a group.
template <Activation KIND>
static void finish_activated(const void* task, int first_row, int num_rows) {
  const LinearTask& t = *static_cast<const LinearTask*>(task);
  const int64_t first = t.panel * kPanelWidth, width = min64(kGroup, t.op.segments[0].num_outputs - first);
  const UnitBiases biases = unit_biases(t);
  alignas(64) float y[kGroup] = {};
  for (int r = first_row; r < first_row + num_rows; ++r) {
    for (int n = 0; n < t.count; ++n)
      for (int p = 0; p < kParts; ++p)
        store(y + n * kPanelWidth + p * W, activate_sums<KIND, false>(t, biases, r, n, p));
    if (t.op.y_type == RowType::Q8)
      quantize_group(y, t.op.y[0].row<Q8Group>(t.step, t.row + r) + first / kGroup);
    else
      __builtin_memcpy(t.op.y[0].row(t.step, t.row + r) + first, y, sizeof(float) * width);
  }
}

// The same into rotated rows, which are as long as whole rotations.
template <Activation KIND>
static void finish_rotated(const void* task, int first_row, int num_rows) {
  const LinearTask& t = *static_cast<const LinearTask*>(task);
  const UnitBiases biases = unit_biases(t);
  for (int r = first_row; r < first_row + num_rows; ++r) {
    RotationBlock block;
#pragma GCC unroll 32
    for (int i = 0; i < kRotation / W; ++i)
      block.v[i] = activate_sums<KIND, true>(t, biases, r, i / kParts, i % kParts);
    quantize_rotated(block, t.op.y[0].row<R8Block>(t.step, t.row + r) + t.panel * kPanelWidth / kRotation);
  }
}

static void linear_unit(const LinearOp& op, const Step& step, int per_unit, int64_t unit, int64_t row, int rows,
                        float* sums) {
  int s = 0;
  if (!op.activated)
    for (int64_t units; unit >= (units = segment_units(op.segments[s], per_unit)); ++s) unit -= units;
  const int64_t panel = unit * per_unit, stride = int64_t{rows} * kPanelWidth;
  const int count = static_cast<int>(min64(per_unit, num_panels(op.segments[s].num_outputs) - panel));
  const uint8_t* x = op.x.row<uint8_t>(step, row);
  const LinearTask task{op, step, s, panel, count, row, sums, stride};
  const Tuning& tuning = step.tuning;
  if (!op.activated) {
    panel_matmul(tuning, op.segments[s], panel, count, op.terms[s], x, op.x.stride, rows, sums, stride,
                 {finish_plain, &task});
    return;
  }
  const Epilogue finish{op.y_type == RowType::R8 ? LEPTON_FOR_ACTIVATION(op.activation, finish_rotated)
                                                 : LEPTON_FOR_ACTIVATION(op.activation, finish_activated),
                        &task};
  if (op.num_segments == 1) {
    panel_matmul(tuning, op.segments[0], panel, count, op.terms[0], x, op.x.stride, rows, sums, stride, finish);
    return;
  }
  panel_matmul(tuning, op.segments[0], panel, count, op.terms[0], x, op.x.stride, rows, sums, stride);
  panel_matmul(tuning, op.segments[1], panel, count, op.terms[1], x, op.x.stride, rows, sums + count * stride, stride,
               finish);
}

static void linear_run(const OpRecord& record, const Step& step, int64_t chunk, Scratch scratch) {
  const LinearOp& op = record.linear;
  const LinearChunks chunks(op, step);
  const int64_t row = chunk / chunks.unit_chunks() * step.tuning.row_block;
  const int rows = static_cast<int>(min64(step.tuning.row_block, step.rows(op.rows) - row));
  float* sums = reinterpret_cast<float*>(scratch.data);
  int64_t begin, end;
  chunks.range(chunk % chunks.unit_chunks(), &begin, &end);
  for (int64_t unit = begin; unit < end; ++unit) linear_unit(op, step, chunks.per_unit, unit, row, rows, sums);
}

}  // namespace lepton::LEPTON_ISA
