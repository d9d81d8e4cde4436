#include "device.h"

#include <sys/syscall.h>
#include <unistd.h>

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
    return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-int8") &&
           __builtin_cpu_supports("amx-bf16") && can_run("avx512vnni") && may_use_tiles();
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

ThreadPool::ThreadPool(int num_threads, int64_t scratch_bytes) : num_threads_(num_threads) {
  reserve_scratch(scratch_bytes);
  barrier_.reset(num_threads);
}

void ThreadPool::reserve_scratch(int64_t bytes) {
  const std::lock_guard<std::mutex> lease(lease_);
  if (bytes <= scratch_bytes_) return;
  scratch_bytes_ = (bytes + 63) / 64 * 64;
  scratch_storage_ = std::make_unique_for_overwrite<uint8_t[]>(num_threads_ * scratch_bytes_ + 64);
  scratch_ = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(scratch_storage_.get()) + 63) / 64 * 64);
}

ThreadPool::~ThreadPool() {
  if (owner_pid_ != getpid()) {  // a forked child has no workers to join
    for (std::thread& thread : threads_) thread.detach();
    return;
  }
  stopping_.store(true);
  ticket_.add(1);
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::start() {
  for (std::thread& thread : threads_) thread.detach();  // only after a fork: these run in the parent
  threads_.clear();
  ticket_.reset(0);
  running_.reset(0);
  barrier_.reset(num_threads_);
  owner_pid_ = getpid();
  for (int i = 1; i < num_threads_; ++i) threads_.emplace_back([this, i] { worker(i); });
}

void ThreadPool::worker(int thread) {
  for (uint32_t seen = 0;;) {
    seen = ticket_.wait_while(seen, idle_budget_);
    if (stopping_.load()) return;
    (*job_)(thread);
    running_.count_down();
  }
}

void ThreadPool::run(const std::function<void(int)>& job) {
  const std::lock_guard<std::mutex> lease(lease_);
  if (num_threads_ == 1) return job(0);
  if (owner_pid_ != getpid()) start();
  job_ = &job;
  running_.reset(num_threads_ - 1);
  ticket_.add(1);
  job(0);
  while (const uint32_t left = running_.load()) running_.wait_while(left, end_budget_);
}

void parallel_for(ThreadPool& pool, int64_t count, const std::function<void(int64_t)>& body) {
  std::atomic<int64_t> next{0};
  pool.run([&](int) {
    for (int64_t i; (i = next.fetch_add(1)) < count;) body(i);
  });
}

}  // namespace lepton
