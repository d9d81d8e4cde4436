// How threads wait for each other: they spin for as long as that has been of use lately, then sleep.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace lepton {

// How long to spin. Who is waited for is there within microseconds, unless it has no core: then a spin takes from it
// what it is short of, the core, or the quota of a control group. So a spin that was in vain halves the next one, and
// one that was not, or one of 64 that tries its luck, has the whole time.
class SpinBudget {
 public:
  using Duration = std::chrono::nanoseconds;
  explicit SpinBudget(Duration most) : most_(most), now_(most.count()) {}

  Duration next();
  void succeeded();
  void failed();

 private:
  const Duration most_;
  std::atomic<int64_t> now_;
  std::atomic<uint32_t> waits_{0};
};

// A number that threads wait for.
class WaitWord {
 public:
  uint32_t load() const { return word_.load(std::memory_order_acquire); }
  // These wake who sleeps.
  void store(uint32_t value);
  void add(uint32_t value);
  // Takes one off, and wakes who sleeps if none is left.
  void count_down();
  // While nobody waits.
  void reset(uint32_t value);
  // Returns what the word is as soon as it is not `value`.
  uint32_t wait_while(uint32_t value, SpinBudget& budget);
  int sleepers() const { return sleepers_.load(); }

 private:
  void wake();

  alignas(64) std::atomic<uint32_t> word_{0};
  std::atomic<int> sleepers_{0};
};

// A meeting point of `count` threads.
class Barrier {
 public:
  using Clock = std::chrono::steady_clock;
  // While nobody waits.
  void reset(int count);
  // The last to come writes the time to `opened`, where all give one.
  void wait(Clock::time_point* opened = nullptr);

 private:
  int count_ = 1;
  alignas(64) std::atomic<int> arrived_{0};
  WaitWord generation_;
  SpinBudget budget_{std::chrono::microseconds(50)};
};

}  // namespace lepton
