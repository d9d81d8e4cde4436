// Quads of weights and sums of channels in 128-bit registers, for the integer dot products of arm64.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "../panels.h"

namespace lepton::LEPTON_ISA {

// 16 channels of 32-bit sums.
struct Sums {
  int32x4_t part[kPanelWidth / 4];
};

// Quad q of four channels as unsigned bytes.
template <int BITS, bool PACKED>
static inline uint8x16_t load_quad(const uint8_t* data, int q, int part) {
  const uint8_t* at = data + part * 16;
  if constexpr (!PACKED || BITS == 8) {
    return vld1q_u8(at + q * 64);
  } else {
    const uint8x16_t plane = vld1q_u8(at + (q & 3) * 64);
    const uint8x16_t low = q >= 4 ? vshrq_n_u8(plane, 4) : vandq_u8(plane, vdupq_n_u8(15));
    if constexpr (BITS == 5) {
      const uint8x16_t bit = vshlq_u8(vld1q_u8(at + 256), vdupq_n_s8(static_cast<int8_t>(4 - q)));
      return vorrq_u8(low, vandq_u8(bit, vdupq_n_u8(16)));
    } else if constexpr (BITS == 6) {
      const uint8x16_t high = vld1q_u8(at + 256 + (q >> 2) * 64);
      const uint8x16_t bits = vshlq_u8(high, vdupq_n_s8(static_cast<int8_t>(4 - 2 * (q & 3))));
      return vorrq_u8(low, vandq_u8(bits, vdupq_n_u8(48)));
    } else {
      return low;
    }
  }
}

template <int BITS>
static inline void unpack_group(const uint8_t* data, uint8_t* out) {
#pragma GCC unroll 8
  for (int q = 0; q < kQuads; ++q)
    for (int part = 0; part < 4; ++part) vst1q_u8(out + q * 64 + part * 16, load_quad<BITS, true>(data, q, part));
}

static inline VF sums_to_float(const Sums& sums, int part) { return vcvtq_f32_s32(sums.part[part]); }

}  // namespace lepton::LEPTON_ISA
