// Integer dot products of Armv8.6 (FEAT_I8MM), exact in 32 bits: unsigned weights times signed activations as they are.
// Two rows are taken together by the product of two 2 x 8 matrices, channels by rows; a single one by dot products.
#pragma once

#include "sums_neon.h"

namespace lepton::LEPTON_ISA {

constexpr int kPackedRows = 4;
constexpr int kTileRows = 4, kTilePanels = 1;
constexpr int kRotatedRows = 4;

// Sums of four channels: of each two rows [two channels][two rows] in a register, and of a row that is left over.
template <int PAIRS>
struct PartSums {
  int32x4_t pairs[PAIRS + 1][2];
  int32x4_t single;
};

// Adds the products of quads [Q0, Q1) of four channels with the terms that start at x[0] ... x[ROWS - 1].
template <int BITS, int STORED, int ROWS, int Q0, int Q1>
static inline void add_products(const uint8_t* data, int part, const int8_t* const* x, int64_t term,
                                PartSums<ROWS / 2>& sums) {
  static_assert((Q1 - Q0) % 2 == 0);
#pragma GCC unroll 4
  for (int q = Q0; q < Q1; q += 2) {
    const uint8x16_t first = load_quad<BITS, STORED>(data + part * 16, q);
    const uint8x16_t second = load_quad<BITS, STORED>(data + part * 16, q + 1);
    const uint32x4_t even = vreinterpretq_u32_u8(first), odd = vreinterpretq_u32_u8(second);
    const uint8x16_t low = vreinterpretq_u8_u32(vzip1q_u32(even, odd));
    const uint8x16_t high = vreinterpretq_u8_u32(vzip2q_u32(even, odd));
#pragma GCC unroll 2
    for (int i = 0; i < ROWS / 2; ++i) {
      const int8x8_t upper = vld1_s8(x[2 * i] + term + 4 * q), lower = vld1_s8(x[2 * i + 1] + term + 4 * q);
      const int8x16_t inputs = vcombine_s8(upper, lower);
      sums.pairs[i][0] = vusmmlaq_s32(sums.pairs[i][0], low, inputs);
      sums.pairs[i][1] = vusmmlaq_s32(sums.pairs[i][1], high, inputs);
    }
    if constexpr (ROWS % 2 != 0) {
      const int8x8_t inputs = vld1_s8(x[ROWS - 1] + term + 4 * q);
      sums.single = vusdotq_lane_s32(sums.single, first, inputs, 0);
      sums.single = vusdotq_lane_s32(sums.single, second, inputs, 1);
    }
  }
}

// Sums of the first term count 256 times.
template <int PAIRS>
static inline void shift_term(PartSums<PAIRS>& sums) {
  for (int i = 0; i < PAIRS; ++i)
    for (int32x4_t& sum : sums.pairs[i]) sum = vshlq_n_s32(sum, 8);
  sums.single = vshlq_n_s32(sums.single, 8);
}

template <int BITS, int STORED, int TERMS, int ROWS, int PANELS, int Q0, int Q1, bool ADD = false>
static inline void dot(const uint8_t* data, int64_t, const int8_t* const* x, int64_t term_stride,
                       const int32_t* offsets, int offset_shift, Sums* out) {
  static_assert(PANELS == 1, "a tile has as many sums as there are registers");
#pragma GCC unroll 4
  for (int part = 0; part < 4; ++part) {
    PartSums<ROWS / 2> sums = {};
    add_products<BITS, STORED, ROWS, Q0, Q1>(data, part, x, 0, sums);
    if constexpr (TERMS == 2) {
      shift_term(sums);
      add_products<BITS, STORED, ROWS, Q0, Q1>(data, part, x, term_stride, sums);
    }
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; ++r) {
      const int32x4_t* pair = sums.pairs[r / 2];
      const int32x4_t row = ROWS % 2 && r == ROWS - 1 ? sums.single
                            : r % 2 == 0              ? vuzp1q_s32(pair[0], pair[1])
                                                      : vuzp2q_s32(pair[0], pair[1]);
      const int32_t start = offset_shift < 0 ? 0 : offsets[r] * (1 << offset_shift);
      out[r].part[part] = vaddq_s32(row, ADD ? out[r].part[part] : vdupq_n_s32(start));
    }
  }
}

}  // namespace lepton::LEPTON_ISA
