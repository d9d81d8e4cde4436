// Sums of channels in 128-bit registers, for the integer dot products of arm64.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "../panels.h"

namespace lepton::LEPTON_ISA {

// 16 channels of 32-bit sums.
struct Sums {
  int32x4_t part[kPanelWidth / 4];
};

static inline VF sums_to_float(const Sums& sums, int part) { return vcvtq_f32_s32(sums.part[part]); }

}  // namespace lepton::LEPTON_ISA
