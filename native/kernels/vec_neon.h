// Vectors of Advanced SIMD on arm64, with fused multiply-add and conversions of f16.
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace lepton::LEPTON_ISA {

constexpr int W = 4;
constexpr int kNumRegisters = 32;
using VF = float32x4_t;
using VI = int32x4_t;
using VB = uint8x16_t;

static inline VF load(const float* p) { return vld1q_f32(p); }
// v in a register: left to itself, GCC may load it again for each use.
static inline VF once(VF v) {
  asm("" : "+w"(v));
  return v;
}
static inline void store(float* p, VF v) { vst1q_f32(p, v); }
static inline VF set1(float x) { return vdupq_n_f32(x); }
static inline VF fma(VF a, VF b, VF c) { return vfmaq_f32(c, a, b); }
// Of a NaN and a number, b: kernels choose by the order of operands which NaN stays, and FMAX keeps each.
static inline VF max(VF a, VF b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
static inline VF min(VF a, VF b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
static inline VF abs(VF a) { return vabsq_f32(a); }
static inline VF div(VF a, VF b) { return vdivq_f32(a, b); }
static inline VF select_less(VF a, VF b, VF yes, VF no) { return vbslq_f32(vcltq_f32(a, b), yes, no); }
static inline VF round(VF a) { return vrndnq_f32(a); }
static inline VI to_int(VF a) { return vcvtnq_s32_f32(a); }
static inline VF to_float(VI a) { return vcvtq_f32_s32(a); }
static inline VI load_int(const int32_t* p) { return vld1q_s32(p); }
static inline VF times_exp2(VF x, VF n) {
  const int32x4_t power = vshlq_n_s32(vaddq_s32(to_int(n), vdupq_n_s32(127)), 23);
  return vmulq_f32(x, vreinterpretq_f32_s32(power));
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
  return D == 2 ? vextq_f32(a, a, 2) : vrev64q_f32(a);
}
static inline VF load_twice(const float* p) {
  const float32x2_t two = vld1_f32(p);
  return vcombine_f32(vdup_lane_f32(two, 0), vdup_lane_f32(two, 1));
}
static inline float reduce_add(VF a) { return vpadds_f32(vadd_f32(vget_low_f32(a), vget_high_f32(a))); }
static inline float reduce_max(VF a) { return vmaxvq_f32(a); }
// The larger of `running` and |x|, compared as integers: a NaN is larger than all.
static inline VF max_abs(VF running, VF x) {
  return vreinterpretq_f32_s32(vmaxq_s32(vreinterpretq_s32_f32(running), vreinterpretq_s32_f32(abs(x))));
}
static inline float reduce_max_abs(VF a) {
  const int32_t bits = vmaxvq_s32(vreinterpretq_s32_f32(a));
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}
// 16 values, rounded, as bytes.
static inline int8x16_t narrow_to_bytes(VF a, VF b, VF c, VF d) {
  const int16x8_t low = vcombine_s16(vqmovn_s32(to_int(a)), vqmovn_s32(to_int(b)));
  const int16x8_t high = vcombine_s16(vqmovn_s32(to_int(c)), vqmovn_s32(to_int(d)));
  return vcombine_s8(vqmovn_s16(low), vqmovn_s16(high));
}
// q[32] = x * factor rounded to bytes, halves to even; sums of each 16.
static inline void quantize_values(const float* x, VF factor, int8_t* q, int32_t* sums) {
  for (int h = 0; h < 2; ++h, x += 16, q += 16) {
    const int8x16_t bytes =
        narrow_to_bytes(load(x) * factor, load(x + 4) * factor, load(x + 8) * factor, load(x + 12) * factor);
    vst1q_s8(q, bytes);
    sums[h] = vaddlvq_s8(bytes);
  }
}
// q[32] = integral values of at most 127, as bytes.
static inline void store_codes(int8_t* q, const VF* v) {
  for (int h = 0; h < 2; ++h, v += 4) vst1q_s8(q + 16 * h, narrow_to_bytes(v[0], v[1], v[2], v[3]));
}
static inline VF load_half(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
static inline VF load_bfloat(const uint16_t* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
static inline void store_half(uint16_t* p, VF v) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
static inline float half_to_float(uint16_t h) {
  return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0);
}
static inline uint16_t float_to_half(float f) { return vget_lane_u16(vreinterpret_u16_f16(vcvt_f16_f32(set1(f))), 0); }
static inline VB load_bytes(const uint8_t* p) { return vld1q_u8(p); }
static inline void store_bytes(uint8_t* p, VB v) { vst1q_u8(p, v); }
static inline VB move_bits(VB v, int shift, int mask) {
  return vandq_u8(vshlq_u8(v, vdupq_n_s8(static_cast<int8_t>(shift))), vdupq_n_u8(static_cast<uint8_t>(mask)));
}
static inline VB look_up(const uint8_t* table, VB codes) { return vqtbl1q_u8(vld1q_u8(table), codes); }
static inline VF quad_input(const uint8_t* plane, int j) {
  const uint32x4_t lanes = vshlq_u32(vreinterpretq_u32_u8(vld1q_u8(plane)), vdupq_n_s32(-8 * j));
  return vcvtq_f32_u32(vandq_u32(lanes, vdupq_n_u32(255)));
}
static inline VF load_scales(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, sizeof four);
  return to_float(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four))))));
}

}  // namespace lepton::LEPTON_ISA
