// Norms of rows: RMS norm and layer norm, after a residual sum or not, into f32 or into 8-bit rows; rows of length 1.

namespace lepton::LEPTON_ISA {

// The order of every sum here: two vectors in turn, their sum, its lanes, then what fills no vector.
static inline float sum_of_squares(const float* x, int32_t size) {
  const int32_t whole = size / W * W;
  VF squares[2] = {set1(0.0f), set1(0.0f)};
  int i = 0;
  for (; i + 2 * W <= size; i += 2 * W) {
    squares[0] = fma(load(x + i), load(x + i), squares[0]);
    squares[1] = fma(load(x + i + W), load(x + i + W), squares[1]);
  }
  for (; i < whole; i += W) squares[0] = fma(load(x + i), load(x + i), squares[0]);
  float total = reduce_add(squares[0] + squares[1]);
  for (; i < size; ++i) total += x[i] * x[i];
  return total;
}

static inline float sum_of(const float* x, int32_t size) {
  const int32_t whole = size / W * W;
  VF sums[2] = {set1(0.0f), set1(0.0f)};
  int i = 0;
  for (; i + 2 * W <= size; i += 2 * W) {
    sums[0] = sums[0] + load(x + i);
    sums[1] = sums[1] + load(x + i + W);
  }
  for (; i < whole; i += W) sums[0] = sums[0] + load(x + i);
  float total = reduce_add(sums[0] + sums[1]);
  for (; i < size; ++i) total += x[i];
  return total;
}

// y = x - mean(x); y may be x.
static inline void subtract_mean(const float* x, int32_t size, float* y) {
  const int32_t whole = size / W * W;
  const float mean = sum_of(x, size) / static_cast<float>(size);
  int i = 0;
  for (; i < whole; i += W) store(y + i, load(x + i) - set1(mean));
  for (; i < size; ++i) y[i] = x[i] - mean;
}

static inline float norm_factor(const float* x, int32_t size, float eps) {
  return 1.0f / __builtin_sqrtf(sum_of_squares(x, size) / static_cast<float>(size) + eps);
}

static inline void rms_norm(const NormOp& op, const float* x, float* y) {
  const int32_t size = op.size, whole = size / W * W;
  const float factor = norm_factor(x, size, op.eps);
  int i = 0;
  for (; i < whole; i += W) store(y + i, load(x + i) * set1(factor) * (set1(op.weight_offset) + load(op.weight + i)));
  for (; i < size; ++i) y[i] = x[i] * factor * (op.weight_offset + op.weight[i]);
}

// The mean is taken off twice: of a row far from zero, the first sum's rounding error is left (Chan, Golub & LeVeque
// 1983, "Algorithms for Computing the Sample Variance").
static inline void layer_norm(const NormOp& op, const float* x, float* y) {
  const int32_t size = op.size, whole = size / W * W;
  subtract_mean(x, size, y);
  subtract_mean(y, size, y);
  const float factor = norm_factor(y, size, op.eps);
  int i = 0;
  for (; i < whole; i += W) store(y + i, fma(load(y + i) * set1(factor), load(op.weight + i), load(op.bias + i)));
  for (; i < size; ++i) y[i] = y[i] * factor * op.weight[i] + op.bias[i];
}

static Chunks norm_chunks(const OpRecord& record, const Step& step) { return row_chunks(step.rows(record.norm.rows)); }

static void norm_row(const NormOp& op, const Step& step, int64_t row, float* scratch) {
  const float* x = op.x.row(step, row);
  const int32_t size = op.size * op.num_groups, whole = size / W * W;
  if (op.has_residual) {
    const float* residual = op.residual.row(step, row);
    float* sum = op.sum.row(step, row);
    for (int i = 0; i < whole; i += W) store(sum + i, load(x + i) + load(residual + i));
    for (int i = whole; i < size; ++i) sum[i] = x[i] + residual[i];
    x = sum;
  }
  float* y = op.y_type != RowType::F32 ? scratch : op.y.row(step, row);
  for (int32_t begin = 0; begin < size; begin += op.size)
    if (op.bias)
      layer_norm(op, x + begin, y + begin);
    else
      rms_norm(op, x + begin, y + begin);
  if (op.y_type != RowType::F32) quantize_row(y, y, op.y.row<uint8_t>(step, row), size, op.y_type);
}

// Half of a row was made by another core, so that its lines are far away.
static inline void prefetch_row(const NormOp& op, const Step& step, int64_t row) {
  for (int i = 0; i < op.size * op.num_groups; i += 16) {
    __builtin_prefetch(op.x.row(step, row) + i);
    if (op.has_residual) __builtin_prefetch(op.residual.row(step, row) + i);
  }
}

static void norm_run(const OpRecord& record, const Step& step, int64_t chunk, Scratch scratch) {
  const NormOp& op = record.norm;
  const int64_t end = min64(step.rows(op.rows), (chunk + 1) * kRowsPerChunk);
  for (int64_t r = chunk * kRowsPerChunk; r < end; ++r) {
    if (r + 1 < end) prefetch_row(op, step, r + 1);
    norm_row(op, step, r, reinterpret_cast<float*>(scratch.data));
  }
}

static Chunks l2_normalize_chunks(const OpRecord& record, const Step& step) {
  return row_chunks(step.rows(record.l2_normalize.rows));
}

static void l2_normalize_run(const OpRecord& record, const Step& step, int64_t chunk, Scratch) {
  const L2NormalizeOp& op = record.l2_normalize;
  for (int64_t r = chunk * kRowsPerChunk; r < min64(step.rows(op.rows), (chunk + 1) * kRowsPerChunk); ++r) {
    const float* x = op.x.row(step, r);
    float* y = op.y.row(step, r);
    const float length = __builtin_sqrtf(sum_of_squares(x, op.size));
    const float factor = 1.0f / (length < 1e-12f ? 1e-12f : length);
    for (int i = 0; i < op.size; ++i) y[i] = x[i] * factor;
  }
}

}  // namespace lepton::LEPTON_ISA
