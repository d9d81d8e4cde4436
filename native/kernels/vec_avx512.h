// Vectors of AVX-512 (F, BW, DQ, VL).
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace lepton::LEPTON_ISA {

constexpr int W = 16;
using VF = __m512;
using VI = __m512i;

static inline VF load(const float* p) { return _mm512_loadu_ps(p); }
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
static inline VF exp2_int(VF n) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(to_int(n), _mm512_set1_epi32(127)), 23));
}
static inline float reduce_add(VF a) { return _mm512_reduce_add_ps(a); }
static inline float reduce_max(VF a) { return _mm512_reduce_max_ps(a); }
static inline float half_to_float(uint16_t h) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))); }
static inline uint16_t float_to_half(float f) {
  return static_cast<uint16_t>(_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(f), _MM_FROUND_TO_NEAREST_INT)));
}
static inline VF load_half(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
static inline void store_half(uint16_t* p, VF v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline VF quad_input(const uint8_t* plane, int j) {
  const __m512i lanes = _mm512_loadu_si512(plane);
  return to_float(_mm512_and_si512(_mm512_srlv_epi32(lanes, _mm512_set1_epi32(8 * j)), _mm512_set1_epi32(255)));
}
static inline void store_int8(int8_t* p, VF v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(to_int(v)));
}
static inline VF load_scales(const int8_t* p) {
  return to_float(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
static inline VF load_scales(const uint8_t* p) {
  return to_float(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}

}  // namespace lepton::LEPTON_ISA
