// Vectors of AVX2 with FMA and F16C.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace lepton::LEPTON_ISA {

constexpr int W = 8;
constexpr int kNumRegisters = 16;
using VF = __m256;
using VI = __m256i;
using VB = __m256i;

static inline VF load(const float* p) { return _mm256_loadu_ps(p); }
// v in a register: left to itself, GCC may load it again for each use.
static inline VF once(VF v) {
  asm("" : "+x"(v));
  return v;
}
static inline void store(float* p, VF v) { _mm256_storeu_ps(p, v); }
static inline VF set1(float x) { return _mm256_set1_ps(x); }
static inline VF fma(VF a, VF b, VF c) { return _mm256_fmadd_ps(a, b, c); }
static inline VF max(VF a, VF b) { return _mm256_max_ps(a, b); }
static inline VF min(VF a, VF b) { return _mm256_min_ps(a, b); }
static inline VF abs(VF a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
static inline VF div(VF a, VF b) { return _mm256_div_ps(a, b); }
static inline VF select_less(VF a, VF b, VF yes, VF no) {
  return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
static inline VF round(VF a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline VI to_int(VF a) { return _mm256_cvtps_epi32(a); }
static inline VF to_float(VI a) { return _mm256_cvtepi32_ps(a); }
static inline VI load_int(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
static inline VF times_exp2(VF x, VF n) {
  const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(to_int(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(x, _mm256_castsi256_ps(power));
}
// For x <= 0: what is to be given to times_exp2 for the integer below x, and x less this.
static inline VF whole_below(VF x, VF* rest) {
  const VF kept = max(set1(-126.0f), x), nearest = round(kept);
  const VF whole = select_less(kept, nearest, nearest - set1(1.0f), nearest);
  *rest = kept - whole;
  return whole;
}
template <int D>
static inline VF swap_lanes(VF a) {
  if constexpr (D == 4) return _mm256_permute2f128_ps(a, a, 1);
  return _mm256_permute_ps(a, D == 2 ? 0x4e : 0xb1);
}
static inline VF load_twice(const float* p) {
  const __m256 four = _mm256_castps128_ps256(_mm_loadu_ps(p));
  return _mm256_permutevar8x32_ps(four, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
}
static inline float reduce_add(VF a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline float reduce_max(VF a) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
// The larger of `running` and |x|, compared as integers: a NaN is larger than all.
static inline VF max_abs(VF running, VF x) {
  return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(running), _mm256_castps_si256(abs(x))));
}
static inline float reduce_max_abs(VF a) {
  const __m256i bits = _mm256_castps_si256(a);
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
  return _mm_cvtss_f32(_mm_castsi128_ps(m));
}
// 32 values, rounded, as bytes.
static inline __m256i narrow_to_bytes(const VF* v) {
  const __m256i low = _mm256_packs_epi32(to_int(v[0]), to_int(v[1]));
  const __m256i high = _mm256_packs_epi32(to_int(v[2]), to_int(v[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // packs work within 128 bits
  return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
}
// q[32] = x * factor rounded to bytes, halves to even; sums of each 16 (of bytes plus 128 as unsigned, eight at a
// time).
static inline void quantize_values(const float* x, VF factor, int8_t* q, int32_t* sums) {
  const VF scaled[4] = {load(x) * factor, load(x + 8) * factor, load(x + 16) * factor, load(x + 24) * factor};
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
static inline float half_to_float(uint16_t h) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))); }
static inline uint16_t float_to_half(float f) {
  return static_cast<uint16_t>(_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(f), _MM_FROUND_TO_NEAREST_INT)));
}
static inline VF load_half(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
static inline VF load_bfloat(const uint16_t* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
static inline void store_half(uint16_t* p, VF v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline VB load_bytes(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
static inline void store_bytes(uint8_t* p, VB v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
static inline VB move_bits(VB v, int shift, int mask) {
  const VB moved = shift > 0 ? _mm256_slli_epi16(v, shift) : shift < 0 ? _mm256_srli_epi16(v, -shift) : v;
  return _mm256_and_si256(moved, _mm256_set1_epi8(static_cast<char>(mask)));
}
static inline VB look_up(const uint8_t* table, VB codes) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(*reinterpret_cast<const __m128i*>(table)), codes);
}
static inline VF quad_input(const uint8_t* plane, int j) {
  const __m256i lanes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(plane));
  return to_float(_mm256_and_si256(_mm256_srlv_epi32(lanes, _mm256_set1_epi32(8 * j)), _mm256_set1_epi32(255)));
}
static inline VF load_scales(const int8_t* p) {
  return to_float(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

}  // namespace lepton::LEPTON_ISA
