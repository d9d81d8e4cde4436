#include "measure.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>

namespace lepton {

double measure_read_bandwidth(ThreadPool& pool, int64_t num_bytes) {
  constexpr int kPasses = 4, kLanes = 8;
  std::vector<uint64_t> data(std::max<int64_t>(num_bytes / 8, kLanes), 1);
  const int64_t share = static_cast<int64_t>(data.size()) / pool.num_threads() / kLanes * kLanes;
  std::vector<uint64_t> sums(pool.num_threads());
  double best = 0.0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto begin = std::chrono::steady_clock::now();
    pool.run([&](int thread) {
      const uint64_t* p = data.data() + thread * share;
      uint64_t lanes[kLanes] = {};
      for (int64_t i = 0; i < share; i += kLanes)
        for (int j = 0; j < kLanes; ++j) lanes[j] += p[i + j];
      sums[thread] = std::accumulate(lanes, lanes + kLanes, uint64_t{0});
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = std::max(best, static_cast<double>(share) * 8.0 * pool.num_threads() / seconds);
  }
  // The sums are what keeps the reads from being removed; a wrong total would mean they were.
  const uint64_t total = std::accumulate(sums.begin(), sums.end(), uint64_t{0});
  return total == static_cast<uint64_t>(share) * pool.num_threads() ? best : 0.0;
}

}  // namespace lepton
