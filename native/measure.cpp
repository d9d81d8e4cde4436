#include "measure.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <new>
#include <numeric>

#include "huge_page.h"

namespace lepton {

namespace {

struct Release {
  void operator()(uint64_t* p) const { std::free(p); }
};

// `count` ones in huge pages, as weights have them: with small ones, misses of the translation buffer are measured.
std::unique_ptr<uint64_t, Release> ones(int64_t count) {
  const int64_t bytes = (count * 8 + kHugePage - 1) / kHugePage * kHugePage;
  std::unique_ptr<uint64_t, Release> data(static_cast<uint64_t*>(std::aligned_alloc(kHugePage, bytes)));
  if (!data) throw std::bad_alloc();
  madvise(data.get(), bytes, MADV_HUGEPAGE);  // where there are none, the pages are small
  std::fill_n(data.get(), count, uint64_t{1});
  return data;
}

}  // namespace

double measure_read_bandwidth(ThreadPool& pool, int64_t num_bytes) {
  constexpr int kPasses = 4, kLanes = 8;
  constexpr int64_t kPassBytes = 16 << 20;  // of a small buffer, read so often that waking the threads is not measured
  const int64_t share = std::max<int64_t>(num_bytes / 8 / pool.num_threads() / kLanes, 1) * kLanes;
  const int64_t bytes = share * 8 * pool.num_threads(), times = std::max<int64_t>(kPassBytes / bytes, 1);
  const auto data = ones(share * pool.num_threads());
  std::vector<uint64_t> sums(pool.num_threads());
  double best = 0.0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto begin = std::chrono::steady_clock::now();
    pool.run([&](int thread) {
      const uint64_t* p = data.get() + thread * share;
      uint64_t lanes[kLanes] = {};
      for (int64_t time = 0; time < times; ++time) {
        asm volatile("" ::: "memory");  // each time anew
        for (int64_t i = 0; i < share; i += kLanes)
          for (int j = 0; j < kLanes; ++j) lanes[j] += p[i + j];
      }
      sums[thread] = std::accumulate(lanes, lanes + kLanes, uint64_t{0});
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = std::max(best, static_cast<double>(bytes * times) / seconds);
  }
  // The sums are what keeps the reads from being removed; a wrong total would mean they were.
  const uint64_t total = std::accumulate(sums.begin(), sums.end(), uint64_t{0});
  return total == static_cast<uint64_t>(bytes / 8 * times) ? best : 0.0;
}

}  // namespace lepton
