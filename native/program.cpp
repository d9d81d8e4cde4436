#include "program.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace lepton {

// A kernel may ask for lanes in steps of more rows than this; the claims of the others need not be set for them.
constexpr int kLaneRows = kMinRowBlock;

Program::Program(std::vector<OpRecord> ops, const KernelTable* kernels, int num_threads)
    : ops_(std::move(ops)),
      kernels_(kernels),
      num_threads_(num_threads),
      claims_(new Claim[ops_.size() * num_threads]),
      seconds_(ops_.size()) {}

void Program::run(ThreadPool& pool, const Step& step) {
  const int lanes = std::max(step.num_tokens, step.num_rows) > kLaneRows ? num_threads_ : 1;
  for (size_t i = 0; i < ops_.size() * lanes; ++i) claims_[i].next.store(0, std::memory_order_relaxed);
  pool.run([&](int thread) { walk(pool, step, thread); });
}

template <class Run>
void Program::share_out(size_t op, Chunks chunks, int thread, const Run& run) {
  if (!chunks.by_row) {
    std::atomic<int64_t>& next = claim(op, 0).next;  // counts from the first chunk that has no thread of its own
    for (int64_t i = thread; i < chunks.count; i = num_threads_ + next.fetch_add(1, std::memory_order_relaxed)) run(i);
    return;
  }
  for (int turn = 0; turn < num_threads_; ++turn) {
    const int lane = (thread + turn) % num_threads_;
    const int64_t begin = chunks.count * lane / num_threads_, end = chunks.count * (lane + 1) / num_threads_;
    std::atomic<int64_t>& next = claim(op, lane).next;
    for (int64_t i; (i = begin + next.fetch_add(1, std::memory_order_relaxed)) < end;) run(i);
  }
}

void Program::walk(ThreadPool& pool, const Step& step, int thread) {
  using Clock = Barrier::Clock;
  const bool timing = timing_ && thread == 0;
  const Scratch scratch = pool.scratch(thread);
  bool must_meet = false;  // since the last barrier, a skipped op asked for one
  Clock::time_point before = timing ? Clock::now() : Clock::time_point();
  for (size_t i = 0; i < ops_.size(); ++i) {
    const OpRecord& op = ops_[i];
    const Kernel& kernel = kernels_->kernels[static_cast<int>(op.kind)];
    must_meet |= op.barrier_before;
    const Chunks chunks = kernel.chunks(op, step);
    if (chunks.count == 0) continue;
    if (must_meet) pool.barrier().wait(timing_ ? &opened_ : nullptr);
    // Not the time now: others may have worked on the op since, while this thread had lost its core.
    const Clock::time_point met = timing && must_meet ? opened_ : before;
    must_meet = false;
    share_out(i, chunks, thread, [&](int64_t chunk) { kernel.run(op, step, chunk, scratch); });
    if (!timing) continue;
    const Clock::time_point now = Clock::now();
    seconds_[i].waiting += std::chrono::duration<double>(met - before).count();
    seconds_[i].working += std::chrono::duration<double>(now - met).count();
    before = now;
  }
}

std::vector<OpSeconds> Program::take_op_seconds() {
  return std::exchange(seconds_, std::vector<OpSeconds>(ops_.size()));
}

std::vector<double> Program::take_seconds() {
  std::vector<double> by_kind(kNumOpKinds, 0.0);
  const std::vector<OpSeconds> by_op = take_op_seconds();
  for (size_t i = 0; i < ops_.size(); ++i)
    by_kind[static_cast<int>(ops_[i].kind)] += by_op[i].waiting + by_op[i].working;
  return by_kind;
}

}  // namespace lepton
