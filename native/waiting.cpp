#include "waiting.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

namespace lepton {

namespace {

constexpr int64_t kShortestSpin = 1000;  // nanoseconds
constexpr uint32_t kWaitsBetweenTries = 64;
constexpr int kLooksBeforeClock = 16;  // at the word: most waits are over by then
constexpr int kLooksBetweenClocks = 16;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void futex_wait(std::atomic<uint32_t>& word, uint32_t expected) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void futex_wake_all(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
}

}  // namespace

SpinBudget::Duration SpinBudget::next() {
  const int64_t now = now_.load(std::memory_order_relaxed);
  if (now >= most_.count()) return most_;
  const bool tries_its_luck = waits_.fetch_add(1, std::memory_order_relaxed) % kWaitsBetweenTries == 0;
  return tries_its_luck ? most_ : Duration(now);
}

void SpinBudget::succeeded() {
  if (now_.load(std::memory_order_relaxed) != most_.count()) now_.store(most_.count(), std::memory_order_relaxed);
}

void SpinBudget::failed() {
  const int64_t now = now_.load(std::memory_order_relaxed);
  now_.store(std::max(now / 2, kShortestSpin), std::memory_order_relaxed);
}

// Sequentially consistent, as is a sleeper's coming: either it sees the new word, or is seen.
void WaitWord::store(uint32_t value) {
  word_.store(value);
  wake();
}

void WaitWord::add(uint32_t value) {
  word_.fetch_add(value);
  wake();
}

void WaitWord::count_down() {
  if (word_.fetch_sub(1) == 1) wake();
}

void WaitWord::reset(uint32_t value) {
  word_.store(value);
  sleepers_.store(0);
}

void WaitWord::wake() {
  if (sleepers_.load() > 0) futex_wake_all(word_);
}

uint32_t WaitWord::wait_while(uint32_t value, SpinBudget& budget) {
  uint32_t now;
  for (int looks = 0; looks < kLooksBeforeClock; ++looks) {
    if ((now = load()) != value) return now;
    pause();
  }
  const auto until = std::chrono::steady_clock::now() + budget.next();
  do {
    for (int looks = 0; looks < kLooksBetweenClocks; ++looks) {
      if ((now = load()) != value) {
        budget.succeeded();
        return now;
      }
      pause();
    }
  } while (std::chrono::steady_clock::now() < until);
  budget.failed();
  sleepers_.fetch_add(1);
  while ((now = word_.load()) == value) futex_wait(word_, value);
  sleepers_.fetch_sub(1);
  return now;
}

void Barrier::reset(int count) {
  count_ = count;
  arrived_.store(0);
  generation_.reset(0);
}

void Barrier::wait(Clock::time_point* opened) {
  if (count_ == 1) {
    if (opened) *opened = Clock::now();
    return;
  }
  const uint32_t generation = generation_.load();
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < count_) {
    generation_.wait_while(generation, budget_);
    return;
  }
  arrived_.store(0, std::memory_order_relaxed);
  if (opened) *opened = Clock::now();
  generation_.store(generation + 1);
}

}  // namespace lepton
