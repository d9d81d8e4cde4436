// Pooling: of the tokens of each sequence, one row. Tokens are taken in their order, so that a sum depends on nothing
// but the sequence itself.

namespace lepton::LEPTON_ISA {

constexpr int kPoolColumns = 64;  // a chunk is so many columns of one sequence

static inline int64_t pool_strips(const PoolOp& op) { return (op.size + kPoolColumns - 1) / kPoolColumns; }

static Chunks pool_chunks(const OpRecord& record, const Step& step) {
  return {step.num_seqs * pool_strips(record.pool)};
}

static void pool_run(const OpRecord& record, const Step& step, int64_t chunk, Scratch) {
  const PoolOp& op = record.pool;
  const int64_t seq = chunk / pool_strips(op), column = chunk % pool_strips(op) * kPoolColumns;
  const int width = static_cast<int>(min64(kPoolColumns, op.size - column));
  const int64_t begin = op.mode == PoolMode::Last ? step.query_offsets[seq + 1] - 1 : step.query_offsets[seq];
  const int64_t end = op.mode == PoolMode::Cls ? begin + 1 : step.query_offsets[seq + 1];
  float y[kPoolColumns];
  __builtin_memcpy(y, op.x.row(step, begin) + column, sizeof(float) * width);
  for (int64_t t = begin + 1; t < end; ++t) {
    const float* x = op.x.row(step, t) + column;
    if (op.mode == PoolMode::Max)
      for (int i = 0; i < width; ++i) y[i] = x[i] > y[i] || x[i] != x[i] ? x[i] : y[i];
    else
      for (int i = 0; i < width; ++i) y[i] += x[i];
  }
  const float count = static_cast<float>(end - begin);
  const float divisor = op.mode == PoolMode::Mean          ? count
                        : op.mode == PoolMode::MeanSqrtLen ? __builtin_sqrtf(count)
                                                           : 1.0f;
  for (int i = 0; i < width; ++i) y[i] /= divisor;
  __builtin_memcpy(op.y.row(step, seq) + column, y, sizeof(float) * width);
}

}  // namespace lepton::LEPTON_ISA
