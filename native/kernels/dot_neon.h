// Integer dot products of Armv8.2 (FEAT_DotProd): four channels a register, four products a lane, exact in 32 bits. A
// register of activations holds four quads, and an instruction takes one of them for all channels. Both factors are
// signed: weights of at most 6 bits are so as they are, those of 8 bits less 128.
#pragma once

#include "sums_neon.h"

namespace lepton::LEPTON_ISA {

constexpr int kPackedRows = 4;
constexpr int kTileRows = 4, kTilePanels = 1;
constexpr int kRotatedRows = 4;

#define LEPTON_CHECK_OFFSET(kind) \
  static_assert(kind_info(PanelKind::kind).bits != 8 || kind_info(PanelKind::kind).offset == 128);
LEPTON_PANEL_KINDS(LEPTON_CHECK_OFFSET)
#undef LEPTON_CHECK_OFFSET

// Adds the products of quads [Q0, Q1) of four channels with the term that starts at x[row] to sums[row].
template <int BITS, int STORED, int ROWS, int Q0, int Q1>
static inline void add_products(const uint8_t* data, int part, const int8_t* const* x, int64_t term, int32x4_t* sums) {
  static_assert(Q0 % 4 == 0 && Q1 % 4 == 0);
  constexpr uint8_t sign = BITS == 8 ? 128 : 0;
#pragma GCC unroll 2
  for (int four = Q0; four < Q1; four += 4) {
    int8x16_t w[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
      w[i] = vreinterpretq_s8_u8(veorq_u8(load_quad<BITS, STORED>(data + part * 16, four + i), vdupq_n_u8(sign)));
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; ++r) {
      const int8x16_t inputs = vld1q_s8(x[r] + term + 4 * four);
      sums[r] = vdotq_laneq_s32(sums[r], w[0], inputs, 0);
      sums[r] = vdotq_laneq_s32(sums[r], w[1], inputs, 1);
      sums[r] = vdotq_laneq_s32(sums[r], w[2], inputs, 2);
      sums[r] = vdotq_laneq_s32(sums[r], w[3], inputs, 3);
    }
  }
}

template <int BITS, int STORED, int TERMS, int ROWS, int PANELS, int Q0, int Q1, bool ADD = false>
static inline void dot(const uint8_t* data, int64_t, const int8_t* const* x, int64_t term_stride,
                       const int32_t* offsets, int offset_shift, Sums* out) {
  static_assert(PANELS == 1, "a tile has as many sums as there are registers");
#pragma GCC unroll 4
  for (int part = 0; part < 4; ++part) {
    int32x4_t sums[ROWS] = {};
    if constexpr (TERMS == 2) {
      add_products<BITS, STORED, ROWS, Q0, Q1>(data, part, x, 0, sums);
      for (int r = 0; r < ROWS; ++r) sums[r] = vshlq_n_s32(sums[r], 8);
    }
    // The products of 8-bit weights contain their offset.
    if (BITS != 8 && offset_shift >= 0)
      for (int r = 0; r < ROWS; ++r) sums[r] = vaddq_s32(sums[r], vdupq_n_s32(offsets[r] * (1 << offset_shift)));
    add_products<BITS, STORED, ROWS, Q0, Q1>(data, part, x, (TERMS - 1) * term_stride, sums);
    for (int r = 0; r < ROWS; ++r) out[r].part[part] = ADD ? vaddq_s32(out[r].part[part], sums[r]) : sums[r];
  }
}

}  // namespace lepton::LEPTON_ISA
