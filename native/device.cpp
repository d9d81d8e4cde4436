#include "device.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace lepton {

#if defined(__x86_64__)
extern const KernelTable kKernelsAvx2;
extern const KernelTable kKernelsAvx512;
extern const KernelTable kKernelsAmx;
#elif defined(__aarch64__)
extern const KernelTable kKernelsI8mm;
extern const KernelTable kKernelsNeonDot;
#endif
extern const KernelTable kKernelsGeneric;

namespace {

constexpr std::chrono::microseconds kSpinBeforePark{500};  // more than the Python between two steps takes
constexpr int kSpinsBetweenLooks = 256;                    // at the clock
constexpr int kSpinsBeforeYield = 2000;  // at a barrier: about 30 microseconds, then somebody lost a core

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

#if defined(__x86_64__)
// The kernel keeps room for tile registers in the threads of a process that asks for it.
bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

bool can_run(const std::string& isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (isa == "amx")
    return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-int8") && can_run("avx512vnni") &&
           may_use_tiles();
  if (isa == "avx512vnni")
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
  if (isa == "avx2")
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#elif defined(__aarch64__)
  const bool has_dot = getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
  if (isa == "neondot") return has_dot;
  if (isa == "i8mm") return has_dot && (getauxval(AT_HWCAP2) & HWCAP2_I8MM);
#endif
  return isa == "generic";
}

std::vector<const KernelTable*> built_kernels() {
  return {
#if defined(__x86_64__)
      &kKernelsAmx, &kKernelsAvx512, &kKernelsAvx2,
#elif defined(__aarch64__)
      &kKernelsI8mm, &kKernelsNeonDot,
#endif
      &kKernelsGeneric};
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const KernelTable* table : built_kernels())
    if (can_run(table->isa)) names.emplace_back(table->isa);
  return names;
}

const KernelTable* find_kernels(const std::string& isa) {
  for (const KernelTable* table : built_kernels())
    if (isa == table->isa && can_run(isa)) return table;
  return nullptr;
}

void SpinBarrier::wait(Clock::time_point* opened) {
  if (count_ == 1) {
    if (opened) *opened = Clock::now();
    return;
  }
  const uint32_t generation = generation_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
    arrived_.store(0, std::memory_order_relaxed);
    if (opened) *opened = Clock::now();
    generation_.store(generation + 1, std::memory_order_release);
    return;
  }
  for (int spins = 0; generation_.load(std::memory_order_acquire) == generation; ++spins) {
    if (spins < kSpinsBeforeYield)
      pause();
    else
      std::this_thread::yield();
  }
}

ThreadPool::ThreadPool(int num_threads, int64_t scratch_bytes) : num_threads_(num_threads) {
  reserve_scratch(scratch_bytes);
  barrier_.reset(num_threads);
}

void ThreadPool::reserve_scratch(int64_t bytes) {
  const std::lock_guard<std::mutex> lease(lease_);
  if (bytes <= scratch_bytes_) return;
  scratch_bytes_ = (bytes + 63) / 64 * 64;
  scratch_storage_.resize(num_threads_ * scratch_bytes_ + 64);
  scratch_ = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(scratch_storage_.data()) + 63) / 64 * 64);
}

ThreadPool::~ThreadPool() {
  if (owner_pid_ != getpid()) {  // a forked child has no workers to join
    for (std::thread& thread : threads_) thread.detach();
    return;
  }
  stopping_.store(true);
  ticket_.fetch_add(1);
  futex_wake_all(ticket_);
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::start() {
  for (std::thread& thread : threads_) thread.detach();  // only after a fork: these run in the parent
  threads_.clear();
  running_.store(0);
  parked_.store(0);
  owner_pid_ = getpid();
  for (int i = 1; i < num_threads_; ++i) threads_.emplace_back([this, i] { worker(i); });
}

void ThreadPool::worker(int thread) {
  uint32_t seen = 0;
  while (true) {
    uint32_t ticket;
    const auto parks_at = std::chrono::steady_clock::now() + kSpinBeforePark;
    for (int spins = 1; (ticket = ticket_.load(std::memory_order_acquire)) == seen; ++spins) {
      if (spins % kSpinsBetweenLooks || std::chrono::steady_clock::now() < parks_at) {
        pause();
        continue;
      }
      parked_.fetch_add(1);
      futex_wait(ticket_, seen);
      parked_.fetch_sub(1);
    }
    seen = ticket;
    if (stopping_.load()) return;
    (*job_)(thread);
    running_.fetch_sub(1, std::memory_order_release);
  }
}

void ThreadPool::run(const std::function<void(int)>& job) {
  const std::lock_guard<std::mutex> lease(lease_);
  if (num_threads_ == 1) return job(0);
  if (owner_pid_ != getpid()) {
    ticket_.store(0);
    start();
  }
  job_ = &job;
  running_.store(num_threads_ - 1, std::memory_order_relaxed);
  ticket_.fetch_add(1, std::memory_order_seq_cst);
  if (parked_.load(std::memory_order_seq_cst) > 0) futex_wake_all(ticket_);
  job(0);
  for (int spins = 0; running_.load(std::memory_order_acquire) > 0; ++spins) {
    if (spins < kSpinsBeforeYield)
      pause();
    else
      std::this_thread::yield();
  }
}

void parallel_for(ThreadPool& pool, int64_t count, const std::function<void(int64_t)>& body) {
  std::atomic<int64_t> next{0};
  pool.run([&](int) {
    for (int64_t i; (i = next.fetch_add(1)) < count;) body(i);
  });
}

}  // namespace lepton
