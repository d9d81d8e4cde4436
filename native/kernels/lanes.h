// Lanes of a vector in pairs that are D apart.
#pragma once

namespace lepton::LEPTON_ISA {

// -1 in the upper lane of each pair, 1 in the lower.
template <int D>
static inline LEPTON_INLINE VF pair_signs() {
  alignas(64) float signs[W];
  for (int i = 0; i < W; ++i) signs[i] = i & D ? -1.0f : 1.0f;
  return load(signs);
}

}  // namespace lepton::LEPTON_ISA
