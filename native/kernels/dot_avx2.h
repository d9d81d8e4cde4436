// Integer dot products on AVX2: unsigned weights times signed activations through maddubs, added in 16 bits as deep as
// the weight's width allows (up to u4 eight products of pairs, u5 four, u6 two), then widened. Of 8-bit weights the
// signed value is taken, whose sign goes to the activation.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "../panels.h"

namespace lepton::LEPTON_ISA {

constexpr int kPackedRows = 4;
constexpr int kTileRows = 4, kTilePanels = 1;
constexpr int kRotatedRows = 4;

struct Sums {
  __m256i half[2];
};

static inline __m256i broadcast_quad(const int8_t* x) {
  int32_t v;
  __builtin_memcpy(&v, x, 4);
  return _mm256_set1_epi32(v);
}

// Sums of 16-bit products over quads [Q0, Q1), DEPTH of them between widenings.
template <int BITS, int STORED, int DEPTH, int ROWS, int Q0, int Q1>
static inline void dot_pass(const uint8_t* data, const int8_t* const* x, Sums* out) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i acc[ROWS][2];
#pragma GCC unroll 8
  for (int q = Q0; q < Q1; ++q) {
    const bool is_first = (q - Q0) % DEPTH == 0, is_last = (q - Q0) % DEPTH == DEPTH - 1 || q == Q1 - 1;
    __m256i w[2];
    for (int h = 0; h < 2; ++h) w[h] = load_quad<BITS, STORED>(data + h * 32, q);
    for (int r = 0; r < ROWS; ++r) {
      const __m256i a = broadcast_quad(x[r] + 4 * q);
      for (int h = 0; h < 2; ++h) {
        const __m256i product = _mm256_maddubs_epi16(w[h], a);
        acc[r][h] = is_first ? product : _mm256_add_epi16(acc[r][h], product);
        asm("" : "+x"(acc[r][h]));  // add now: left to itself, GCC keeps all products and spills them
        if (!is_last) continue;
        const __m256i wide = _mm256_madd_epi16(acc[r][h], ones);
        out[r].half[h] = q - Q0 < DEPTH ? wide : _mm256_add_epi32(out[r].half[h], wide);
      }
    }
  }
}

// 8-bit weights, less 128: the size of a weight times the activation with its sign. Two products fill 16 bits.
template <int STORED, int ROWS, int Q0, int Q1, bool ADD>
static inline void dot_signed(const uint8_t* data, const int8_t* const* x, Sums* out) {
  const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 8
  for (int q = Q0; q < Q1; ++q) {
    __m256i w[2], size[2];
    for (int h = 0; h < 2; ++h) {
      w[h] = _mm256_xor_si256(load_quad<8, STORED>(data + h * 32, q), _mm256_set1_epi8(-128));
      size[h] = _mm256_abs_epi8(w[h]);
    }
    for (int r = 0; r < ROWS; ++r) {
      const __m256i a = broadcast_quad(x[r] + 4 * q);
      for (int h = 0; h < 2; ++h) {
        const __m256i pairs = _mm256_maddubs_epi16(size[h], _mm256_sign_epi8(a, w[h]));
        const __m256i wide = _mm256_madd_epi16(pairs, ones);
        out[r].half[h] = q == Q0 && !ADD ? wide : _mm256_add_epi32(out[r].half[h], wide);
        asm("" : "+x"(out[r].half[h]));  // add now, as in dot_pass
      }
    }
  }
}

template <int BITS, int STORED, int ROWS, int Q0, int Q1, bool ADD>
static inline void dot_q8(const uint8_t* data, const int8_t* const* x, Sums* out) {
  if constexpr (BITS == 8) {
    dot_signed<STORED, ROWS, Q0, Q1, ADD>(data, x, out);
  } else {
    static_assert(!ADD);
    constexpr int depth = BITS <= 4 ? 8 : BITS == 5 ? 4 : 2;
    dot_pass<BITS, STORED, depth, ROWS, Q0, Q1>(data, x, out);
  }
}

// 32 inputs of a row in 16 bits, the even and then the odd ones of each quad: 256 * first term + second.
static inline void join_terms(const int8_t* first, const int8_t* second, int16_t* out) {
  for (int i = 0; i < kGroup; i += 16) {
    const __m256i high = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(first + i)));
    const __m256i low = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(second + i)));
    const __m256i joined = _mm256_add_epi16(_mm256_slli_epi16(high, 8), low);
    const __m256i sorted = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(joined, 0xd8), 0xd8);
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + i), sorted);
  }
}

// Weights times 16-bit inputs: pairs of products are added in 32 bits at once.
template <int BITS, int STORED, int ROWS, int Q0, int Q1>
static inline void dot_q16(const uint8_t* data, const int8_t* const* x, int64_t term_stride, Sums* out) {
  alignas(32) int16_t inputs[ROWS][kGroup];
  for (int r = 0; r < ROWS; ++r) join_terms(x[r], x[r] + term_stride, inputs[r]);
  asm("" : "+m"(inputs));  // read pairs from memory: a broadcast from there is cheaper than from a register
  __m256i acc[ROWS][2];
#pragma GCC unroll 8
  for (int q = Q0; q < Q1; ++q) {
    __m256i even[2], odd[2];
    for (int h = 0; h < 2; ++h) {
      const __m256i w = load_quad<BITS, STORED>(data + h * 32, q);
      even[h] = _mm256_and_si256(w, _mm256_set1_epi16(255));
      odd[h] = _mm256_srli_epi16(w, 8);
    }
    for (int r = 0; r < ROWS; ++r) {
      const int8_t* pairs = reinterpret_cast<const int8_t*>(inputs[r] + 4 * q);
      const __m256i a = broadcast_quad(pairs), b = broadcast_quad(pairs + 4);
      for (int h = 0; h < 2; ++h) {
        const __m256i first = _mm256_madd_epi16(even[h], a), second = _mm256_madd_epi16(odd[h], b);
        acc[r][h] = q == Q0 ? first : _mm256_add_epi32(acc[r][h], first);
        acc[r][h] = _mm256_add_epi32(acc[r][h], second);
        asm("" : "+x"(acc[r][h]));  // add now, as in dot_pass
      }
    }
  }
  for (int r = 0; r < ROWS; ++r)
    for (int h = 0; h < 2; ++h) out[r].half[h] = acc[r][h];
}

template <int BITS, int STORED, int TERMS, int ROWS, int PANELS, int Q0, int Q1, bool ADD = false>
static inline void dot(const uint8_t* data, int64_t, const int8_t* const* x, int64_t term_stride,
                       const int32_t* offsets, int offset_shift, Sums* out) {
  static_assert(PANELS == 1, "a tile has as many sums as there are registers");
  if constexpr (TERMS == 1)
    dot_q8<BITS, STORED, ROWS, Q0, Q1, ADD>(data, x, out);
  else
    dot_q16<BITS, STORED, ROWS, Q0, Q1>(data, x, term_stride, out);
  if (offset_shift >= 0 && (TERMS == 2 || BITS != 8))
    for (int r = 0; r < ROWS; ++r) {
      const __m256i offset = _mm256_slli_epi32(_mm256_set1_epi32(offsets[r]), offset_shift);
      for (int h = 0; h < 2; ++h) out[r].half[h] = _mm256_add_epi32(out[r].half[h], offset);
    }
}

static inline VF sums_to_float(const Sums& sums, int part) { return _mm256_cvtepi32_ps(sums.half[part]); }

}  // namespace lepton::LEPTON_ISA
