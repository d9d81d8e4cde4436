// linear and gated_linear: panels times rows, then bias, activation and quantisation while the sums are in L1.

namespace lepton::LEPTON_ISA {

constexpr int kFewRows = 16;
constexpr int kRowBlock = 128;  // rows that share one unpacking of a panel; their sums and activations stay in L2

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

// A unit is what one epilogue needs: a panel, or two panels of gate with two of up (one group of 32 outputs).
static int64_t linear_units(const LinearOp& op) {
  if (op.gated) return (num_panels(op.segments[0].num_outputs) + 1) / 2;
  int64_t total = 0;
  for (int s = 0; s < op.num_segments; ++s) total += num_panels(op.segments[s].num_outputs);
  return total;
}

// How units are cut into chunks. Few rows read weights once, as fast as memory gives them: each thread's first chunk is
// a long run of panels, and only the rest is cut small, to balance. Many rows: a chunk is one unit for one row block.
struct LinearChunks {
  int64_t units, first, small;  // units in all, in each thread's first chunk, in each later one
  int64_t threads, row_blocks;

  LinearChunks(const LinearOp& op, const Step& step) : units(linear_units(op)), threads(step.num_threads) {
    const int64_t rows = step.rows(op.rows);
    row_blocks = (rows + kRowBlock - 1) / kRowBlock;
    const bool is_few = rows <= kFewRows;
    first = is_few ? units * 5 / (8 * threads) : 0;
    small = is_few ? units / (16 * threads) : 1;
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

static int64_t linear_chunks(const OpRecord& record, const Step& step) {
  return LinearChunks(record.linear, step).total();
}

static void plain_unit(const LinearOp& op, const Step& step, int64_t unit, int64_t row, int rows, float* sums) {
  int s = 0;
  while (unit >= num_panels(op.segments[s].num_outputs)) unit -= num_panels(op.segments[s++].num_outputs);
  const PanelMatrix& m = op.segments[s];
  panel_matmul(m, unit, op.terms[s], op.x.row<uint8_t>(step, row), op.x.stride, rows, sums);
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
  const int terms = op.terms[0] > 1 || op.terms[1] > 1 ? 2 : 1;
  const int64_t part = static_cast<int64_t>(rows) * terms * kPanelWidth;
  for (int s = 0; s < 2; ++s)
    for (int p = 0; p < panels; ++p) {
      float* out = sums + (2 * s + p) * part;
      panel_matmul(op.segments[s], 2 * unit + p, op.terms[s], op.x.row<uint8_t>(step, row), op.x.stride, rows, out);
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
  const LinearChunks chunks(op, step);
  const int64_t row = chunk / chunks.unit_chunks() * kRowBlock;
  const int rows = static_cast<int>(min64(kRowBlock, step.rows(op.rows) - row));
  float* sums = reinterpret_cast<float*>(scratch.data);
  int64_t begin, end;
  chunks.range(chunk % chunks.unit_chunks(), &begin, &end);
  for (int64_t unit = begin; unit < end; ++unit) {
    if (op.gated)
      gated_unit(op, step, unit, row, rows, sums);
    else
      plain_unit(op, step, unit, row, rows, sums);
  }
}

}  // namespace lepton::LEPTON_ISA
