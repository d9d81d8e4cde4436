// The CPU as a device: which instruction sets it has, and the threads that run programs.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "step.h"
#include "waiting.h"

namespace lepton {

// Instruction sets that this build has kernels for and this machine can run, best first.
std::vector<std::string> available_isas();

// Kernels of an instruction set; null for a name that is unknown or that this machine cannot run.
const KernelTable* find_kernels(const std::string& isa);

// Threads that run the same function at the same time; the caller is thread 0. Workers spin briefly after a job and
// then sleep. One job at a time: run() holds a lease. A forked child starts its own workers at its first job.
class ThreadPool {
 public:
  explicit ThreadPool(int num_threads, int64_t scratch_bytes);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return num_threads_; }
  void run(const std::function<void(int thread)>& job);
  Barrier& barrier() { return barrier_; }
  Scratch scratch(int thread) { return {scratch_ + thread * scratch_bytes_, scratch_bytes_}; }
  // At least this much working memory for each thread; not while a job runs.
  void reserve_scratch(int64_t bytes);

 private:
  void start();
  void worker(int thread);

  int num_threads_;
  int64_t scratch_bytes_ = 0;
  std::unique_ptr<uint8_t[]> scratch_storage_;  // pages are taken when they are written
  uint8_t* scratch_ = nullptr;                  // aligned into the storage
  std::mutex lease_;
  std::vector<std::thread> threads_;
  int owner_pid_ = 0;
  const std::function<void(int)>* job_ = nullptr;
  WaitWord ticket_;                                         // of the job
  WaitWord running_;                                        // workers that are in it
  SpinBudget idle_budget_{std::chrono::microseconds(500)};  // more than the Python between two steps takes
  SpinBudget end_budget_{std::chrono::microseconds(50)};
  std::atomic<bool> stopping_{false};
  Barrier barrier_;
};

// Calls body(i) for i in [0, count), spread over the pool.
void parallel_for(ThreadPool& pool, int64_t count, const std::function<void(int64_t)>& body);

}  // namespace lepton
