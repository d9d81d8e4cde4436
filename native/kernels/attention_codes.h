// The inner loops of attention over a cache of codes: products of bytes, of which codes of queries and of weights have
// two, and codes of the cache BYTES. What is left out is the product of two low bytes, a 2^-16th of the largest.
#pragma once

#include "attention_tile.h"
#include "kv_codes.h"

namespace lepton::LEPTON_ISA {

// Rows of scores and of codes of weights, with a line more: at powers of 2 they would share the sets of a cache.
constexpr int kScoreStride = kSplitKeys + 16;
constexpr int kWeightStride = kSplitKeys + 64;
constexpr int kStepQuads = 4;  // of 16 inputs
constexpr int kStepInputs = 4 * kStepQuads;
template <int BYTES>
constexpr int kStepFetches = BYTES + 1;  // of the next tile, in a step: one for each product
template <int BYTES>
constexpr float kUnit = BYTES == 2 ? 256.0f : 1.0f;  // of products of codes
// Two sums for each output stay in registers.
constexpr int kCodedRows = kNumRegisters >= 32 ? kTileRows : kTileRows / 2;

// A step's quads of the bytes of some codes. Codes of one byte have no low ones.
struct CodedQuads {
  const uint8_t* high;
  const uint8_t* low;
};

// Sums of products with high bytes alone, 256 times as much as those of the others.
template <int SIZE>
struct CodedSums {
  Sums high[SIZE], mixed[SIZE];
};

template <int BYTES, int ROWS, int PANELS, bool ADD>
static inline LEPTON_INLINE void add_step(CodedQuads w, int64_t stride, const int8_t* const* high,
                                          const int8_t* const* low, const int32_t* high_offsets,
                                          const int32_t* low_offsets, CodedSums<ROWS * PANELS>& sums, NextTile& next) {
  constexpr int shift = ADD ? -1 : 0;
  next.fetch();
  dot<8, 8, 1, ROWS, PANELS, 0, kStepQuads, ADD>(w.high, stride, high, 0, high_offsets, shift, sums.high);
  next.fetch();
  dot<8, 8, 1, ROWS, PANELS, 0, kStepQuads, ADD>(w.high, stride, low, 0, low_offsets, shift, sums.mixed);
  if constexpr (BYTES == 1) return;
  next.fetch();
  dot<8, 8, 1, ROWS, PANELS, 0, kStepQuads, true>(w.low, stride, high, 0, nullptr, -1, sums.mixed);
}

// out[row][panel] = the products, in kUnit, of rows of codes with PANELS panels of them, `stride` bytes apart; quads
// of step i are at(i).
template <int BYTES, int ROWS, int PANELS, class At>
static inline LEPTON_INLINE void multiply_codes(const CodedRows& x, int row, int begin, int end, int64_t stride,
                                                const At& at, VF (&out)[ROWS][PANELS][kParts], NextTile& next) {
  const int8_t *high[ROWS], *low[ROWS];
  const auto look_at = [&](int step) {
    for (int r = 0; r < ROWS; ++r) {
      high[r] = x.high + (row + r) * x.stride + step * kStepInputs;
      low[r] = x.low + (row + r) * x.stride + step * kStepInputs;
    }
  };
  CodedSums<ROWS * PANELS> sums;
  look_at(begin);
  add_step<BYTES, ROWS, PANELS, false>(at(begin), stride, high, low, x.high_offsets + row, x.low_offsets + row, sums,
                                       next);
  for (int step = begin + 1; step < end; ++step) {
    look_at(step);
    add_step<BYTES, ROWS, PANELS, true>(at(step), stride, high, low, nullptr, nullptr, sums, next);
  }
  for (int r = 0; r < ROWS; ++r)
    for (int n = 0; n < PANELS; ++n)
      for (int p = 0; p < kParts; ++p)
        out[r][n][p] = fma(sums_to_float(sums.high[r * PANELS + n], p), set1(256.0f),
                           sums_to_float(sums.mixed[r * PANELS + n], p));
}

// Panels of 16 keys, of which those [begin, end) are scored.
struct KeyPanels {
  const uint8_t* const* keys;
  const float* factors;  // of a product with each key
  int begin, end;
};

// The keys and values of a split, in codes of BYTES. Scales of values that nobody sees are 0, and so are codes of
// weights with them: what lies there changes nothing.
template <int BYTES>
struct CodedSplit {
  uint8_t* keys[kSplitBlocks];  // where the head begins, in each block
  const uint8_t* values[kSplitBlocks];
  alignas(64) float key_factors[kSplitKeys];
  float value_scales[kSplitKeys];
  int D, begin, blocks;  // the blocks that are seen: [begin, blocks); `begin` is a multiple of 4

  int64_t plane_bytes() const { return int64_t{kBlockTokens} * D; }
  KeyPanels panels() const { return {keys, key_factors, begin, blocks}; }
  // Keys that become codes are whole groups; their codes are followed by zeros, to whole tiles.
  int first_key() const { return begin * kBlockTokens; }
  int end_code() const { return (blocks * kBlockTokens + kGroup - 1) / kGroup * kGroup; }
  int end_key() const { return (blocks + kTileBlocks - 1) / kTileBlocks * kKeyTile; }
};

// Where scores go, in the steps of the codes of their rows.
template <bool HAS_BASES>
struct CodedScores {
  float* scores;  // [row][key]
  int stride;
  const float* bases = nullptr;  // [row][16]: what is added to those of a panel

  LEPTON_INLINE void put(int row, int panel, int part, VF product, VF factor) const {
    float* to = scores + row * stride + panel * kBlockTokens + part * W;
    if constexpr (HAS_BASES)
      store(to, fma(product, factor, set1(bases[row * kSplitBlocks + panel])));
    else
      store(to, product * factor);
  }
};

// The scores of ROWS rows of D dimensions for PANELS panels of keys from `panel` on.
template <int BYTES, int ROWS, int PANELS, bool HAS_BASES>
static inline void score_coded_panels(const CodedRows& x, int row, const KeyPanels& kv, int panel, int D,
                                      const CodedScores<HAS_BASES>& to, NextTile& next) {
  const uint8_t* keys = kv.keys[panel];
  const int64_t stride = PANELS == 2 ? kv.keys[panel + PANELS - 1] - keys : 0, plane = int64_t{kBlockTokens} * D;
  const auto quads = [&](int step) {
    const uint8_t* high = keys + step * (kStepQuads * 64);
    return CodedQuads{high, high + plane};
  };
  VF out[ROWS][PANELS][kParts];
  multiply_codes<BYTES, ROWS, PANELS>(x, row, 0, D / kStepInputs, stride, quads, out, next);
  for (int r = 0; r < ROWS; ++r)
    for (int n = 0; n < PANELS; ++n)
      for (int p = 0; p < kParts; ++p)
        to.put(row + r, panel + n, p, out[r][n][p], load(kv.factors + (panel + n) * kBlockTokens + p * W));
}

// out[row][D] = weights x values, for PANELS strips of 16 dimensions.
template <int BYTES, int ROWS, int PANELS>
static inline void weigh_coded_strips(const CodedRows& x, int row, const CodedSplit<BYTES>& kv, int strip, float* out,
                                      NextTile& next) {
  const int64_t plane = kv.plane_bytes();
  const auto quads = [&](int block) {
    const uint8_t* high = kv.values[block] + strip * kStripBytes;
    return CodedQuads{high, high + plane};
  };
  VF sums[ROWS][PANELS][kParts];
  multiply_codes<BYTES, ROWS, PANELS>(x, row, kv.begin, kv.blocks, kStripBytes, quads, sums, next);
  for (int r = 0; r < ROWS; ++r)
    for (int n = 0; n < PANELS; ++n)
      for (int p = 0; p < kParts; ++p)
        store(out + (row + r) * kv.D + (strip + n) * kPanelWidth + p * W, sums[r][n][p] * set1(x.scales[row + r]));
}

// Calls `run` with the width 2 where there are two panels for it and tiles have as many, else with 1.
template <class Run>
static inline LEPTON_INLINE void by_panels(int begin, int end, const Run& run) {
  int n = begin;
  for (; n + kTilePanels <= end; n += kTilePanels) run.template operator()<kTilePanels>(n);
  if constexpr (kTilePanels > 1)
    if (n < end) run.template operator()<1>(n);
}

// Calls `run` for `rows` rows, kCodedRows at a time.
template <int ROWS, class Run>
static inline LEPTON_INLINE void by_rows(int row, int rows, const Run& run) {
  if constexpr (ROWS > 0) {
    for (; row + ROWS <= rows; row += ROWS) run.template operator()<ROWS>(row);
    by_rows<ROWS - 1>(row, rows, run);
  }
}

template <int BYTES, bool HAS_BASES>
static void score_coded(const CodedRows& x, int rows, const KeyPanels& kv, int D, const CodedScores<HAS_BASES>& to,
                        NextTile& next) {
  by_rows<kCodedRows>(0, rows, [&]<int ROWS>(int row) {
    by_panels(kv.begin, kv.end,
              [&]<int PANELS>(int panel) { score_coded_panels<BYTES, ROWS, PANELS>(x, row, kv, panel, D, to, next); });
  });
}

template <int BYTES>
static void weigh_coded(const CodedRows& x, int rows, const CodedSplit<BYTES>& kv, float* out, NextTile& next) {
  for (int r = 0; r < rows; ++r) x.set_offsets<BYTES>(r, kv.first_key(), kv.end_code());
  by_rows<kCodedRows>(0, rows, [&]<int ROWS>(int row) {
    by_panels(0, kv.D / kPanelWidth,
              [&]<int PANELS>(int strip) { weigh_coded_strips<BYTES, ROWS, PANELS>(x, row, kv, strip, out, next); });
  });
}

}  // namespace lepton::LEPTON_ISA
