// A program: op records over one arena, run by all threads of a pool.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "device.h"

namespace lepton {

// Seconds at the barrier before an op, and in the op itself.
struct OpSeconds {
  double waiting = 0.0, working = 0.0;
};

class Program {
 public:
  Program(std::vector<OpRecord> ops, const KernelTable* kernels, int num_threads);

  // Runs every op for this step. All threads walk the same list; threads meet only where a record says so. Chunks are
  // shared out by claim, the first by thread number. Of chunks in the order of rows each thread has a lane of its own,
  // and helps in the others' when it is through.
  void run(ThreadPool& pool, const Step& step);

  // What thread 0 spent on each op since the last call of one of the two; by kind, waiting is included.
  std::vector<OpSeconds> take_op_seconds();
  std::vector<double> take_seconds();
  void set_timing(bool enabled) { timing_ = enabled; }

  OpRecord& op(int64_t index) { return ops_.at(index); }
  int64_t size() const { return static_cast<int64_t>(ops_.size()); }

 private:
  struct alignas(64) Claim {
    std::atomic<int64_t> next{0};
  };
  void walk(ThreadPool& pool, const Step& step, int thread);
  template <class Run>
  void share_out(size_t op, Chunks chunks, int thread, const Run& run);
  Claim& claim(size_t op, int lane) { return claims_[lane * ops_.size() + op]; }

  std::vector<OpRecord> ops_;
  const KernelTable* kernels_;
  int num_threads_;
  std::unique_ptr<Claim[]> claims_;  // [lane][op]; lane 0 also serves chunks in no order
  bool timing_ = false;
  Barrier::Clock::time_point opened_;  // when the threads last met, while timing
  std::vector<OpSeconds> seconds_;     // of each op
};

}  // namespace lepton
