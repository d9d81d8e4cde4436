// Integer dot products for any machine, on 128-bit vectors: bytes are taken as 16-bit pairs, the even and the odd ones
// of a quad, and pairs of 16-bit products are added in 32-bit lanes, one for each channel. Every sum is exact.
#pragma once

#include <cstdint>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "../panels.h"

namespace lepton::LEPTON_ISA {

constexpr int kPackedRows = 4;
constexpr int kTileRows = 4, kTilePanels = 1;
constexpr int kRotatedRows = 4;

typedef int16_t VS __attribute__((vector_size(16)));

// 16 channels of 32-bit sums.
struct Sums {
  VI part[kPanelWidth / W];
};

// Adjacent 16-bit products, added.
static inline VI multiply_pairs(VS a, VS b) {
#if defined(__SSE2__)
  return reinterpret_cast<VI>(_mm_madd_epi16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#else
  const VI x = reinterpret_cast<VI>(a), y = reinterpret_cast<VI>(b);
  return (x << 16 >> 16) * (y << 16 >> 16) + (x >> 16) * (y >> 16);
#endif
}

// Activations of one row in 16 bits: the even and the odd inputs of each quad, repeated for four channels.
struct RepeatedQuads {
  VS even[kQuads], odd[kQuads];
};

static inline VS load_inputs(const int8_t* x) {
  VS bytes;
  __builtin_memcpy(&bytes, x, sizeof bytes);
  return bytes;
}

template <int TERMS, int Q0, int Q1>
static inline void repeat_quads(const int8_t* x, int64_t term_stride, RepeatedQuads& out) {
  for (int q = Q0; q < Q1; q += 4) {
    const VS bytes = load_inputs(x + q * 4);
    VS evens = bytes << 8 >> 8, odds = bytes >> 8;
    if constexpr (TERMS == 2) {
      const VS rest = load_inputs(x + term_stride + q * 4);
      evens = (evens << 8) + (rest << 8 >> 8);
      odds = (odds << 8) + (rest >> 8);
    }
    const VI even = reinterpret_cast<VI>(evens), odd = reinterpret_cast<VI>(odds);
    for (int i = 0; i < 4; ++i) {
      out.even[q + i] = reinterpret_cast<VS>(VI{even[i], even[i], even[i], even[i]});
      out.odd[q + i] = reinterpret_cast<VS>(VI{odd[i], odd[i], odd[i], odd[i]});
    }
  }
}

// out[row][panel] = the sum over quads Q0 ... Q1-1 of u * x[row], plus offsets[row] << offset_shift, which stands for
// the offset of u; a negative shift means that there is none. Panels lie `panel_stride` bytes apart, the second of two
// terms of x `term_stride` bytes after the first. ADD: out is added to.
template <int BITS, int STORED, int TERMS, int ROWS, int PANELS, int Q0, int Q1, bool ADD = false>
static inline void dot(const uint8_t* data, int64_t, const int8_t* const* x, int64_t term_stride,
                       const int32_t* offsets, int offset_shift, Sums* out) {
  static_assert(PANELS == 1, "a tile has as many sums as there are registers");
  RepeatedQuads rows[ROWS];
  for (int r = 0; r < ROWS; ++r) repeat_quads<TERMS, Q0, Q1>(x[r], term_stride, rows[r]);
  for (int part = 0; part < 4; ++part) {
    VI acc[ROWS];
    for (int r = 0; r < ROWS; ++r) {
      const int32_t start = offset_shift < 0 ? 0 : offsets[r] * (1 << offset_shift);
      acc[r] = VI{start, start, start, start};
    }
#pragma GCC unroll 8
    for (int q = Q0; q < Q1; ++q) {
      const VB u = load_quad<BITS, STORED>(data + part * 16, q);
      const VS even = reinterpret_cast<VS>(u & 255), odd = reinterpret_cast<VS>(u >> 8);
#pragma GCC unroll 4
      for (int r = 0; r < ROWS; ++r)
        acc[r] += multiply_pairs(even, rows[r].even[q]) + multiply_pairs(odd, rows[r].odd[q]);
    }
    for (int r = 0; r < ROWS; ++r) out[r].part[part] = ADD ? out[r].part[part] + acc[r] : acc[r];
  }
}

static inline VF sums_to_float(const Sums& sums, int part) { return to_float(sums.part[part]); }

}  // namespace lepton::LEPTON_ISA
