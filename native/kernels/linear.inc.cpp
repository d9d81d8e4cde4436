// linear and gated_linear: panels times rows, then bias, activation and quantisation while the sums are in L1.

namespace lepton::LEPTON_ISA {

constexpr int kRowBlock = 128;  // rows that share one unpacking of a panel; their sums and activations stay in L2

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

// A unit is what one epilogue needs: a panel, or two panels of gate with two of up (one group of 32 outputs).
static int64_t linear_units(const LinearOp& op) {
  if (op.gated) return (num_panels(op.segments[0].num_outputs) + 1) / 2;
  int64_t total = 0;
  for (int s = 0; s < op.num_segments; ++s) total += num_panels(op.segments[s].num_outputs);
  return total;
}

// Units of one chunk: with few rows, enough that a claim costs nothing beside its work, few enough to balance.
static int64_t units_per_chunk(int64_t units, const Step& step, int64_t rows) {
  const int64_t wanted = rows > 16 ? 1 : units / (8 * step.num_threads);
  return wanted < 1 ? 1 : wanted;
}

static int64_t linear_chunks(const OpRecord& record, const Step& step) {
  const LinearOp& op = record.linear;
  const int64_t rows = step.rows(op.rows), units = linear_units(op), each = units_per_chunk(units, step, rows);
  return (units + each - 1) / each * ((rows + kRowBlock - 1) / kRowBlock);
}

static void plain_unit(const LinearOp& op, const Step& step, int64_t unit, int64_t row, int rows, float* sums) {
  int s = 0;
  while (unit >= num_panels(op.segments[s].num_outputs)) unit -= num_panels(op.segments[s++].num_outputs);
  const PanelMatrix& m = op.segments[s];
  panel_matmul(m, unit, op.is_q8, op.x.row<uint8_t>(step, row), op.x.stride, rows, sums);
  const int64_t first = unit * kPanelWidth;
  const int width = static_cast<int>(min64(kPanelWidth, m.num_outputs - first));
  for (int r = 0; r < rows; ++r) {
    float* y = op.y[s].row(step, row + r) + first;
    const float* sum = sums + r * kPanelWidth;
    if (width == kPanelWidth && !m.bias)
      for (int i = 0; i < kPanelWidth; i += W) store(y + i, load(sum + i));
    else
      for (int i = 0; i < width; ++i) y[i] = m.bias ? sum[i] + m.bias[first + i] : sum[i];
  }
}

static inline void add_bias(const PanelMatrix& m, int64_t first, int rows, float* sums) {
  if (!m.bias) return;
  const int width = static_cast<int>(min64(kPanelWidth, m.num_outputs - first));
  for (int r = 0; r < rows; ++r)
    for (int i = 0; i < width; ++i) sums[r * kPanelWidth + i] += m.bias[first + i];
}

// 32 outputs of silu(gate) * up for some rows.
static void gated_unit(const LinearOp& op, const Step& step, int64_t unit, int64_t row, int rows, float* sums) {
  const int64_t size = op.segments[0].num_outputs, first = unit * kGroup;
  const int panels = first + kPanelWidth < size ? 2 : 1;
  const int64_t part = static_cast<int64_t>(rows) * kPanelWidth;
  for (int s = 0; s < 2; ++s)
    for (int p = 0; p < panels; ++p) {
      float* out = sums + (2 * s + p) * part;
      panel_matmul(op.segments[s], 2 * unit + p, op.is_q8, op.x.row<uint8_t>(step, row), op.x.stride, rows, out);
      add_bias(op.segments[s], first + p * kPanelWidth, rows, out);
    }
  const Q8Row layout(size);
  for (int r = 0; r < rows; ++r) {
    alignas(64) float y[kGroup] = {};
    for (int p = 0; p < panels; ++p)
      for (int i = 0; i < kPanelWidth; i += W) {
        const VF gate = load(sums + p * part + r * kPanelWidth + i);
        store(y + p * kPanelWidth + i, silu(gate) * load(sums + (2 + p) * part + r * kPanelWidth + i));
      }
    if (op.quantize) {
      quantize_group(y, op.y[0].row<uint8_t>(step, row + r), layout, unit);
    } else {
      float* out = op.y[0].row(step, row + r) + first;
      for (int64_t i = 0; i < min64(kGroup, size - first); ++i) out[i] = y[i];
    }
  }
}

static void linear_run(const OpRecord& record, const Step& step, int64_t chunk, Scratch scratch) {
  const LinearOp& op = record.linear;
  const int64_t rows = step.rows(op.rows), units = linear_units(op), each = units_per_chunk(units, step, rows);
  const int64_t unit_chunks = (units + each - 1) / each;
  const int64_t row = chunk / unit_chunks * kRowBlock, begin = chunk % unit_chunks * each;
  const int here = static_cast<int>(min64(kRowBlock, rows - row));
  float* sums = reinterpret_cast<float*>(scratch.data);
  for (int64_t unit = begin; unit < min64(units, begin + each); ++unit) {
    if (op.gated)
      gated_unit(op, step, unit, row, here, sums);
    else
      plain_unit(op, step, unit, row, here, sums);
  }
}

}  // namespace lepton::LEPTON_ISA
