// Integer dot products on AVX-512 VNNI: 16 channels a register, four products a lane, exact in 32 bits.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "../panels.h"

namespace lepton::LEPTON_ISA {

constexpr int kPackedRows = 8;
constexpr int kTileRows = 4, kTilePanels = 2;
constexpr int kRotatedRows = 6;  // of a tile of rotated rows

struct Sums {
  __m512i v;
};

// Adds the products of quads [Q0, Q1) with the term that starts at x[row].
template <int BITS, int STORED, int ROWS, int PANELS, int Q0, int Q1>
static inline void add_products(const uint8_t* data, int64_t panel_stride, const int8_t* const* x, int64_t term,
                                Sums* out) {
#pragma GCC unroll 8
  for (int q = Q0; q < Q1; ++q) {
    __m512i w[PANELS];
    for (int n = 0; n < PANELS; ++n) w[n] = load_quad<BITS, STORED>(data + n * panel_stride, q);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) {
      int32_t quad;
      __builtin_memcpy(&quad, x[r] + term + 4 * q, 4);
      const __m512i a = _mm512_set1_epi32(quad);
      for (int n = 0; n < PANELS; ++n) out[r * PANELS + n].v = _mm512_dpbusd_epi32(out[r * PANELS + n].v, w[n], a);
    }
  }
}

template <int BITS, int STORED, int TERMS, int ROWS, int PANELS, int Q0, int Q1, bool ADD = false>
static inline void dot(const uint8_t* data, int64_t panel_stride, const int8_t* const* x, int64_t term_stride,
                       const int32_t* offsets, int offset_shift, Sums* out) {
  if constexpr (TERMS == 2) {
    for (int i = 0; i < ROWS * PANELS; ++i) out[i].v = _mm512_setzero_si512();
    add_products<BITS, STORED, ROWS, PANELS, Q0, Q1>(data, panel_stride, x, 0, out);
  }
#pragma GCC unroll 8
  for (int r = 0; r < (ADD ? 0 : ROWS); ++r) {
    const __m512i offset = _mm512_set1_epi32(offsets[r]);
    const __m512i start = offset_shift < 0    ? _mm512_setzero_si512()
                          : offset_shift == 0 ? offset
                                              : _mm512_slli_epi32(offset, offset_shift);
    for (int n = 0; n < PANELS; ++n) {
      Sums& sum = out[r * PANELS + n];
      sum.v = TERMS == 1 ? start : _mm512_add_epi32(_mm512_slli_epi32(sum.v, 8), start);
    }
  }
  add_products<BITS, STORED, ROWS, PANELS, Q0, Q1>(data, panel_stride, x, (TERMS - 1) * term_stride, out);
}

static inline VF sums_to_float(const Sums& sums, int) { return _mm512_cvtepi32_ps(sums.v); }

}  // namespace lepton::LEPTON_ISA
