// token_logprob: log_softmax of the head at one target per row, reduced as the logits are made.
//
// The vocabulary is cut at fixed places; each slice leaves its maximum and sum of exponentials, merged in order.

namespace lepton::LEPTON_ISA {

constexpr int64_t kSlicePanels = 64;  // 1,024 tokens
constexpr float kLowest = -3.0e38f;

static int64_t head_slices(const TokenLogprobOp& op) {
  return (num_panels(op.head.num_outputs) + kSlicePanels - 1) / kSlicePanels;
}

static Chunks token_logprob_chunks(const OpRecord& record, const Step& step) {
  return {head_slices(record.token_logprob) * ((step.num_rows + step.tuning.row_block - 1) / step.tuning.row_block)};
}

// A partial row: [slices] maxima, [slices] sums, then the target's logit.
static void token_logprob_run(const OpRecord& record, const Step& step, int64_t chunk, Scratch scratch) {
  const TokenLogprobOp& op = record.token_logprob;
  const int64_t slices = head_slices(op), slice = chunk % slices, row = chunk / slices * step.tuning.row_block;
  const int rows = static_cast<int>(min64(step.tuning.row_block, step.num_rows - row));
  const int64_t begin = slice * kSlicePanels;
  const int64_t end = min64(begin + kSlicePanels, num_panels(op.head.num_outputs));
  float* sums = reinterpret_cast<float*>(scratch.data);
  for (int r = 0; r < rows; ++r) {
    float* partial = op.partial.row(step, row + r);
    partial[slice] = kLowest;
    partial[slices + slice] = 0.0f;
  }
  for (int64_t panel = begin; panel < end; ++panel) {
    panel_matmul(step.tuning, op.head, panel, 1, op.terms, op.x.row<uint8_t>(step, row), op.x.stride, rows, sums, 0);
    const int64_t first = panel * kPanelWidth;
    for (int r = 0; r < rows; ++r) {
      float* partial = op.partial.row(step, row + r);
      float* logits = sums + r * kPanelWidth;
      for (int64_t i = op.head.num_outputs - first; i < kPanelWidth; ++i) logits[i] = kLowest;
      const int64_t target = step.targets[row + r] - first;
      if (target >= 0 && target < kPanelWidth) partial[2 * slices] = logits[target];
      VF largest = load(logits);
      for (int i = W; i < kPanelWidth; i += W) largest = max(largest, load(logits + i));
      const float before = partial[slice], here = reduce_max(largest), now = here > before ? here : before;
      VF total = set1(0.0f);
      for (int i = 0; i < kPanelWidth; i += W) total = total + exp(load(logits + i) - set1(now));
      partial[slices + slice] = partial[slices + slice] * exp1(before - now) + reduce_add(total);
      partial[slice] = now;
    }
  }
}

static Chunks token_logprob_merge_chunks(const OpRecord&, const Step& step) { return {step.num_rows}; }

static void token_logprob_merge_run(const OpRecord& record, const Step& step, int64_t row, Scratch) {
  const TokenLogprobOp& op = record.token_logprob;
  const int64_t slices = head_slices(op);
  const float* partial = op.partial.row(step, row);
  float largest = kLowest;
  for (int64_t s = 0; s < slices; ++s) largest = partial[s] > largest ? partial[s] : largest;
  double total = 0.0;
  for (int64_t s = 0; s < slices; ++s)
    total += static_cast<double>(partial[slices + s]) * __builtin_exp(static_cast<double>(partial[s]) - largest);
  *op.y.row(step, row) = static_cast<float>(static_cast<double>(partial[2 * slices]) - largest - __builtin_log(total));
}

}  // namespace lepton::LEPTON_ISA
