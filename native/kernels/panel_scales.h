// The scales of a panel as f32, and how a panel is walked: super-block by super-block.
#pragma once

#include "../panels.h"

namespace lepton::LEPTON_ISA {

constexpr int kParts = kPanelWidth / W;  // vector registers of one row of 16 channels

template <PanelKind KIND>
constexpr int kHalves = KIND == PanelKind::U6K ? 2 : 1;  // scales in a group of 32 inputs

template <PanelKind KIND>
struct Scales {
  VF scale[kBlockGroups * kHalves<KIND>][kParts];
  VF min[kBlockGroups][kParts];
};

// The scales of up to eight groups of a super-block as f32.
template <PanelKind KIND>
static inline void expand_scales(const uint8_t* block, int groups, Scales<KIND>& out) {
  constexpr KindInfo info = kind_info(KIND);
  if constexpr (!info.two_level) {
    for (int g = 0; g < groups; ++g) {
      const uint16_t* halves = reinterpret_cast<const uint16_t*>(block + g * (info.scale_bytes + info.group_bytes));
      for (int p = 0; p < kParts; ++p) {
        out.scale[g][p] = load_half(halves + p * W);
        if constexpr (info.has_min) out.min[g][p] = load_half(halves + kPanelWidth + p * W);
      }
    }
  } else {
    const uint16_t* super = reinterpret_cast<const uint16_t*>(block);
    if constexpr (KIND == PanelKind::U6K) {
      const int8_t* sub = reinterpret_cast<const int8_t*>(block + 32);
      for (int g = 0; g < 2 * groups; ++g)
        for (int p = 0; p < kParts; ++p)
          out.scale[g][p] = load_half(super + p * W) * load_scales(sub + g * kPanelWidth + p * W);
    } else {
      const uint8_t* low = block + 64;
      const uint8_t* high = block + 192;
      for (int g = 0; g < groups; ++g) {
        uint8_t scale[kPanelWidth], min[kPanelWidth];
        for (int ch = 0; ch < kPanelWidth; ++ch) {
          const uint8_t l = low[g * kPanelWidth + ch];
          const uint8_t h = static_cast<uint8_t>(high[(g >> 1) * kPanelWidth + ch] >> (4 * (g & 1)));
          scale[ch] = static_cast<uint8_t>((l & 15) | ((h & 3) << 4));
          min[ch] = static_cast<uint8_t>((l >> 4) | ((h & 12) << 2));
        }
        for (int p = 0; p < kParts; ++p) {
          out.scale[g][p] = load_half(super + p * W) * load_scales(scale + p * W);
          out.min[g][p] = set1(0.0f) - load_half(super + kPanelWidth + p * W) * load_scales(min + p * W);
        }
      }
    }
  }
}

static inline int groups_of_block(int64_t first, int64_t total) {
  return static_cast<int>(total - first < kBlockGroups ? total - first : kBlockGroups);
}

}  // namespace lepton::LEPTON_ISA
