// The scales of a panel as f32, and how a panel is walked: super-block by super-block.
#pragma once

#include "../panels.h"

namespace lepton::LEPTON_ISA {

constexpr int kParts = kPanelWidth / W;  // vector registers of one row of 16 channels

template <PanelKind KIND>
constexpr int kHalves =  // scales in a group of 32 inputs, and minima in kinds that have them
    KIND == PanelKind::U2K || KIND == PanelKind::U3K || KIND == PanelKind::U6K ? 2 : 1;

template <PanelKind KIND>
struct Scales {
  VF scale[kBlockGroups * kHalves<KIND>][kParts];
  VF min[kBlockGroups * kHalves<KIND>][kParts];
};

// The integer scales and minima of 16 channels, number `s` of a super-block; `packed` is what follows its f16 scales.
template <PanelKind KIND>
static inline void sub_scales(const uint8_t* packed, int s, int8_t* scale, int8_t* min) {
  for (int ch = 0; ch < kPanelWidth; ++ch, ++packed) {
    if constexpr (KIND == PanelKind::U6K) {
      scale[ch] = static_cast<int8_t>(packed[s * kPanelWidth]);
    } else if constexpr (KIND == PanelKind::U2K) {
      scale[ch] = packed[s * kPanelWidth] & 15;
      min[ch] = packed[s * kPanelWidth] >> 4;
    } else if constexpr (KIND == PanelKind::U3K) {
      const int low = packed[(s & 7) * kPanelWidth] >> (s >= 8 ? 4 : 0) & 15;
      const int high = packed[(8 + (s & 3)) * kPanelWidth] >> (2 * (s / 4)) & 3;
      scale[ch] = static_cast<int8_t>((low | high << 4) - 32);
    } else if constexpr (KIND == PanelKind::T4K) {
      const int low = packed[(2 + s / 2) * kPanelWidth] >> (4 * (s & 1)) & 15;
      const int high = packed[s / 4 * kPanelWidth] >> (2 * (s & 3)) & 3;
      scale[ch] = static_cast<int8_t>((low | high << 4) - 32);
    } else {
      const int low = packed[s * kPanelWidth], high = packed[(8 + s / 2) * kPanelWidth] >> (4 * (s & 1));
      scale[ch] = static_cast<int8_t>((low & 15) | (high & 3) << 4);
      min[ch] = static_cast<int8_t>(low >> 4 | (high & 12) << 2);
    }
  }
}

// The scales of up to eight groups of a super-block as f32.
template <PanelKind KIND>
static inline void expand_scales(const uint8_t* block, int groups, Scales<KIND>& out) {
  constexpr KindInfo info = kind_info(KIND);
  if constexpr (zero_point_groups(KIND) > 0) {
    for (int g = 0; g < groups; ++g) {
      const float* scale = reinterpret_cast<const float*>(block + g / zero_point_groups(KIND) * kZeroPointBytes);
      const int8_t* zero = reinterpret_cast<const int8_t*>(scale + kPanelWidth);
      for (int p = 0; p < kParts; ++p) {
        out.scale[g][p] = load(scale + p * W);
        out.min[g][p] = set1(0.0f) - out.scale[g][p] * load_scales(zero + p * W);
      }
    }
  } else if constexpr (!info.has_header) {
    for (int g = 0; g < groups; ++g) {
      const uint16_t* halves = reinterpret_cast<const uint16_t*>(block + g * (info.scale_bytes + info.group_bytes));
      for (int p = 0; p < kParts; ++p) {
        out.scale[g][p] = load_half(halves + p * W);
        if constexpr (info.has_min) out.min[g][p] = load_half(halves + kPanelWidth + p * W);
      }
    }
  } else {
    const uint16_t* super = reinterpret_cast<const uint16_t*>(block);
    for (int s = 0; s < groups * kHalves<KIND>; ++s) {
      int8_t scale[kPanelWidth], min[kPanelWidth];
      sub_scales<KIND>(block + (info.has_min ? 4 : 2) * kPanelWidth, s, scale, min);
      for (int p = 0; p < kParts; ++p) {
        out.scale[s][p] = load_half(super + p * W) * load_scales(scale + p * W);
        if constexpr (info.has_min)
          out.min[s][p] = set1(0.0f) - load_half(super + kPanelWidth + p * W) * load_scales(min + p * W);
      }
    }
  }
}

static inline int groups_of_block(int64_t first, int64_t total) {
  return static_cast<int>(total - first < kBlockGroups ? total - first : kBlockGroups);
}

}  // namespace lepton::LEPTON_ISA
