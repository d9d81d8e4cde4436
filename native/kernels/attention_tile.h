// The inner loops of attention: some queries times a tile of keys, and probabilities times a tile of values.
#pragma once

#include "../step.h"

namespace lepton::LEPTON_ISA {

constexpr int kKeyTile = 64;  // keys whose scores are weighed together
constexpr int kTileBlocks = kKeyTile / kBlockTokens;
constexpr int kSplitKeys = 256;  // keys whose softmax is one sum, merged with those of others
constexpr int kSplitBlocks = kSplitKeys / kBlockTokens;
static_assert(kSplitBlocks == kBlockTokens, "the bases of a split make one panel of keys");

static inline VF load_any(const float* p) { return load(p); }
static inline VF load_any(const uint16_t* p) { return load_half(p); }

// Rows that one pass takes together, and blocks of keys (or strips of values): enough independent sums to hide the
// latency of a fused multiply-add, few enough to stay in registers.
constexpr int kPassSums = kNumRegisters / 4 * 3;
constexpr int kPassRows = kParts == 2 ? 3 : 4;
constexpr int kNarrowPassRows = kParts == 1 ? 2 * kPassRows : kPassRows;
constexpr int pass_width(int rows) {
  return rows * kParts * 4 <= kPassSums ? 4 : rows * kParts * 2 <= kPassSums ? 2 : 1;
}

// The tile of keys and values that comes next. While one is computed, the lines of the next are brought into the second
// cache, evenly: a core has few misses under way, and if more are asked for at once it waits instead of computing. What
// exceeds those few is the work of the prefetcher of the second cache, which follows each page that is read on its own:
// so several parts of the tile are asked for side by side.
struct NextTile {
  const uint8_t* blocks[2 * kSplitBlocks];
  int64_t block_bytes = 0;
  int num_blocks = 0;

  // `passes`: how often `fetch` is called for the tile at hand, at least.
  NextTile(int64_t block_bytes, int tile_blocks, int passes)
      : block_bytes(block_bytes), rate_(static_cast<int>(tile_blocks * block_bytes / 64 * kLine / passes) + 1) {}

  static NextTile none() { return NextTile(0, 0, 1); }

  void add(const uint8_t* block) { blocks[num_blocks++] = block; }

  inline LEPTON_INLINE void fetch() {
    const int part = (num_blocks + kStreams - 1) / kStreams;
    for (due_ += rate_; due_ >= kLine && block_ < part; due_ -= kLine) {
      const int block = block_ + stream_ * part;
      if (block < num_blocks) __builtin_prefetch(blocks[block] + offset_, 0, 2);
      if (++stream_ < kStreams) continue;
      stream_ = 0;
      offset_ += 64;
      if (offset_ >= block_bytes) offset_ = 0, ++block_;
    }
  }

 private:
  static constexpr int kStreams = 4, kLine = 1 << 10;

  int rate_, due_ = 0;  // of a line, in parts of kLine: what a call asks for, and what none has asked for yet
  int block_ = 0, stream_ = 0;
  int64_t offset_ = 0;
};

constexpr int kFetchEvery = 4;  // dimensions of a score, keys of a weighed sum

// scores[ROWS][WIDTH * 16] = queries x WIDTH blocks of keys [D][16], times a factor.
template <int ROWS, int WIDTH, class T>
static inline void score_blocks(const float* queries, const T* const* keys, int D, float factor, float* scores,
                                NextTile& next) {
  VF acc[ROWS][WIDTH][kParts];
  for (int r = 0; r < ROWS; ++r)
    for (int b = 0; b < WIDTH; ++b)
      for (int p = 0; p < kParts; ++p) acc[r][b][p] = set1(0.0f);
  for (int first = 0; first < D; first += kFetchEvery) {
    next.fetch();
    for (int d = first; d < first + kFetchEvery; ++d)
      for (int b = 0; b < WIDTH; ++b)
        for (int p = 0; p < kParts; ++p) {
          const VF k = once(load_any(keys[b] + d * kBlockTokens + p * W));
#pragma GCC unroll 8
          for (int r = 0; r < ROWS; ++r) acc[r][b][p] = fma(k, set1(queries[r * D + d]), acc[r][b][p]);
        }
  }
  for (int b = 0; b < WIDTH; ++b)
    for (int p = 0; p < kParts; ++p) {
      const int first = b * kBlockTokens + p * W;
      for (int r = 0; r < ROWS; ++r) store(scores + r * kKeyTile + first, acc[r][b][p] * set1(factor));
    }
}

template <int ROWS, class T>
static inline void score_rows(const float* queries, const T* const* keys, int blocks, int D, float factor,
                              float* scores, NextTile& next) {
  constexpr int width = pass_width(ROWS);
  int b = 0;
  for (; b + width <= blocks; b += width)
    score_blocks<ROWS, width>(queries, keys + b, D, factor, scores + b * kBlockTokens, next);
  for (; b < blocks; ++b) score_blocks<ROWS, 1>(queries, keys + b, D, factor, scores + b * kBlockTokens, next);
}

// values[ROWS][WIDTH * 16 of D] = values * factor + probabilities x strips of the values of keys [begin, end).
template <int ROWS, int WIDTH, class T>
static inline void weigh_strips(const float* scores, const float* factors, const T* const* values, int begin, int end,
                                int D, int strip, float* out, NextTile& next) {
  VF acc[ROWS][WIDTH * kParts];
  for (int r = 0; r < ROWS; ++r)
    for (int p = 0; p < WIDTH * kParts; ++p) acc[r][p] = load(out + r * D + strip + p * W) * set1(factors[r]);
  for (int first = begin; first < end;) {
    const int block = first / kBlockTokens;
    const int last = end < (block + 1) * kBlockTokens ? end : (block + 1) * kBlockTokens;
    const T* row = values[block] + static_cast<int64_t>(first % kBlockTokens) * D + strip;
    for (const float* score = scores + first; first < last; ++first, ++score, row += D) {
      if (first % kFetchEvery == 0) next.fetch();
      for (int p = 0; p < WIDTH * kParts; ++p) {
        const VF v = once(load_any(row + p * W));
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) acc[r][p] = fma(v, set1(score[r * kKeyTile]), acc[r][p]);
      }
    }
  }
  for (int r = 0; r < ROWS; ++r)
    for (int p = 0; p < WIDTH * kParts; ++p) store(out + r * D + strip + p * W, acc[r][p]);
}

template <int ROWS, class T>
static inline void weigh_rows(const float* scores, const float* factors, const T* const* values, int begin, int end,
                              int D, float* out, NextTile& next) {
  constexpr int width = pass_width(ROWS);
  int strip = 0;
  for (; strip + width * kPanelWidth <= D; strip += width * kPanelWidth)
    weigh_strips<ROWS, width>(scores, factors, values, begin, end, D, strip, out, next);
  for (; strip < D; strip += kPanelWidth)
    weigh_strips<ROWS, 1>(scores, factors, values, begin, end, D, strip, out, next);
}

template <int ROWS, class T>
static inline void score_rest(const float* queries, const T* const* keys, int blocks, int D, float factor,
                              float* scores, int rows, NextTile& next) {
  if constexpr (ROWS > 0) {
    if (rows == ROWS)
      score_rows<ROWS>(queries, keys, blocks, D, factor, scores, next);
    else
      score_rest<ROWS - 1>(queries, keys, blocks, D, factor, scores, rows, next);
  }
}

template <int ROWS, class T>
static inline void weigh_rest(const float* scores, const float* factors, const T* const* values, int begin, int end,
                              int D, float* out, int rows, NextTile& next) {
  if constexpr (ROWS > 0) {
    if (rows == ROWS)
      weigh_rows<ROWS>(scores, factors, values, begin, end, D, out, next);
    else
      weigh_rest<ROWS - 1>(scores, factors, values, begin, end, D, out, rows, next);
  }
}

}  // namespace lepton::LEPTON_ISA
