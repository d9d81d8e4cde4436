// Vectors of AVX-512 (F, BW, DQ, VL).
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace lepton::LEPTON_ISA {

constexpr int W = 16;
constexpr int kNumRegisters = 32;
using VF = __m512;
using VI = __m512i;
using VB = __m512i;

static inline VF load(const float* p) { return _mm512_loadu_ps(p); }
// v in a register: left to itself, GCC may load it again for each use.
static inline VF once(VF v) {
  asm("" : "+v"(v));
  return v;
}
static inline void store(float* p, VF v) { _mm512_storeu_ps(p, v); }
static inline VF set1(float x) { return _mm512_set1_ps(x); }
static inline VF fma(VF a, VF b, VF c) { return _mm512_fmadd_ps(a, b, c); }
static inline VF max(VF a, VF b) { return _mm512_max_ps(a, b); }
static inline VF min(VF a, VF b) { return _mm512_min_ps(a, b); }
static inline VF abs(VF a) { return _mm512_abs_ps(a); }
static inline VF div(VF a, VF b) { return _mm512_div_ps(a, b); }
static inline VF select_less(VF a, VF b, VF yes, VF no) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
static inline VF round(VF a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline VI to_int(VF a) { return _mm512_cvtps_epi32(a); }
static inline VF to_float(VI a) { return _mm512_cvtepi32_ps(a); }
static inline VI load_int(const int32_t* p) { return _mm512_loadu_si512(p); }
static inline VF times_exp2(VF x, VF n) { return _mm512_scalef_ps(x, n); }
// For x <= 0: what is to be given to times_exp2 for the integer below x, and x less this.
static inline VF whole_below(VF x, VF* rest) {
  *rest = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  return x;  // scalef takes the integer below
}
template <int D>
static inline VF swap_lanes(VF a) {
  if constexpr (D == 8) return _mm512_shuffle_f32x4(a, a, 0x4e);
  if constexpr (D == 4) return _mm512_shuffle_f32x4(a, a, 0xb1);
  return _mm512_permute_ps(a, D == 2 ? 0x4e : 0xb1);
}
static inline VF load_twice(const float* p) {
  const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  return _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(p)));
}
static inline float reduce_add(VF a) { return _mm512_reduce_add_ps(a); }
static inline float reduce_max(VF a) { return _mm512_reduce_max_ps(a); }
// The larger of `running` and |x|, compared as integers: a NaN is larger than all.
static inline VF max_abs(VF running, VF x) {
  return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(running), _mm512_castps_si512(abs(x))));
}
static inline float reduce_max_abs(VF a) {
  const __m512i bits = _mm512_castps_si512(a);
  const __m256i half = _mm256_max_epi32(_mm512_castsi512_si256(bits), _mm512_extracti64x4_epi64(bits, 1));
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
  return _mm_cvtss_f32(_mm_castsi128_ps(m));
}
// 32 values, rounded, as bytes.
static inline __m256i narrow_to_bytes(const VF* v) {
  const __m128i low = _mm512_cvtsepi32_epi8(to_int(v[0])), high = _mm512_cvtsepi32_epi8(to_int(v[1]));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}
// q[32] = x * factor rounded to bytes, halves to even; sums of each 16 (of bytes plus 128 as unsigned, eight at a
// time).
static inline void quantize_values(const float* x, VF factor, int8_t* q, int32_t* sums) {
  const VF scaled[2] = {load(x) * factor, load(x + 16) * factor};
  const __m256i bytes = narrow_to_bytes(scaled);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(q), bytes);
  const __m256i eights = _mm256_sad_epu8(_mm256_xor_si256(bytes, _mm256_set1_epi8(-128)), _mm256_setzero_si256());
  const __m256i pairs = _mm256_add_epi64(eights, _mm256_shuffle_epi32(eights, 0x4e));
  sums[0] = _mm256_extract_epi32(pairs, 0) - 16 * 128;
  sums[1] = _mm256_extract_epi32(pairs, 4) - 16 * 128;
}
// q[32] = integral values of at most 127, as bytes.
static inline void store_codes(int8_t* q, const VF* v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(q), narrow_to_bytes(v));
}
// 32 values, rounded to integers of at most 32639 in size, as 256 * high + low of signed bytes; no low one is -128.
static inline void split_words(const VF* v, int8_t* high, int8_t* low) {
  // Added to 1.5 * 2^23, a value is an integer in the lowest bits. With 128 more, the upper byte is the high one, and
  // the lower is the low one and 128.
  const VF shift = _mm512_set1_ps(12582912.0f + 128.0f);
  const __m512i first = _mm512_castps_si512(v[0] + shift), second = _mm512_castps_si512(v[1] + shift);
  const __m512i words = _mm512_mask_blend_epi16(0xaaaaaaaau, first, _mm512_slli_epi32(second, 16));
  const __m512i by_kind = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 2, 6, 10, 14, 1, 5, 9, 13, 3, 7, 11, 15));
  const __m512i in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i bytes = _mm512_permutexvar_epi32(in_order, _mm512_shuffle_epi8(words, by_kind));
  const __m256i lows = _mm256_xor_si256(_mm512_castsi512_si256(bytes), _mm256_set1_epi8(-128));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(low), _mm256_max_epi8(lows, _mm256_set1_epi8(-127)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(high), _mm512_extracti64x4_epi64(bytes, 1));
}
static inline float half_to_float(uint16_t h) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))); }
static inline uint16_t float_to_half(float f) {
  return static_cast<uint16_t>(_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(f), _MM_FROUND_TO_NEAREST_INT)));
}
static inline VF load_half(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
static inline VF load_bfloat(const uint16_t* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
static inline void store_half(uint16_t* p, VF v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline VB load_bytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
static inline void store_bytes(uint8_t* p, VB v) { _mm512_storeu_si512(p, v); }
static inline VB move_bits(VB v, int shift, int mask) {
  const VB moved = shift > 0 ? _mm512_slli_epi16(v, shift) : shift < 0 ? _mm512_srli_epi16(v, -shift) : v;
  return _mm512_and_si512(moved, _mm512_set1_epi8(static_cast<char>(mask)));
}
static inline VB look_up(const uint8_t* table, VB codes) {
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(*reinterpret_cast<const __m128i*>(table)), codes);
}
static inline VF quad_input(const uint8_t* plane, int j) {
  const __m512i lanes = _mm512_loadu_si512(plane);
  return to_float(_mm512_and_si512(_mm512_srlv_epi32(lanes, _mm512_set1_epi32(8 * j)), _mm512_set1_epi32(255)));
}
static inline VF load_scales(const int8_t* p) {
  return to_float(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

}  // namespace lepton::LEPTON_ISA
