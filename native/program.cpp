#include "program.h"

#include <chrono>
#include <utility>

namespace lepton {

Program::Program(std::vector<OpRecord> ops, const KernelTable* kernels)
    : ops_(std::move(ops)), kernels_(kernels), claims_(new Claim[ops_.size()]), seconds_(kNumOpKinds, 0.0) {}

void Program::run(ThreadPool& pool, const Step& step) {
  for (size_t i = 0; i < ops_.size(); ++i) claims_[i].next.store(pool.num_threads(), std::memory_order_relaxed);
  pool.run([&](int thread) { walk(pool, step, thread); });
}

void Program::walk(ThreadPool& pool, const Step& step, int thread) {
  using Clock = std::chrono::steady_clock;
  const bool timing = timing_ && thread == 0;
  const Scratch scratch = pool.scratch(thread);
  bool must_meet = false;  // since the last barrier, a skipped op asked for one
  for (size_t i = 0; i < ops_.size(); ++i) {
    const OpRecord& op = ops_[i];
    const Kernel& kernel = kernels_->kernels[static_cast<int>(op.kind)];
    const Clock::time_point begin = timing ? Clock::now() : Clock::time_point();
    must_meet |= op.barrier_before;
    const int64_t chunks = kernel.chunks(op, step);
    if (chunks == 0) continue;
    if (must_meet) pool.barrier().wait();
    must_meet = false;
    for (int64_t chunk = thread; chunk < chunks; chunk = claims_[i].next.fetch_add(1, std::memory_order_relaxed))
      kernel.run(op, step, chunk, scratch);
    if (timing) seconds_[static_cast<int>(op.kind)] += std::chrono::duration<double>(Clock::now() - begin).count();
  }
}

std::vector<double> Program::take_seconds() { return std::exchange(seconds_, std::vector<double>(kNumOpKinds, 0.0)); }

}  // namespace lepton
