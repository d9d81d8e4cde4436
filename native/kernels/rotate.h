// The rotation in front of 8 bits: the Walsh-Hadamard transform of each 128 values spreads what single channels stand
// out by over all of them, so that one scale serves all (QuaRot, Ashkboos et al. 2024). Weights are rotated alike when
// they are packed, and products of rotated vectors are those of the vectors.
#pragma once

#include "../panels.h"
#include "lanes.h"

namespace lepton::LEPTON_ISA {

// 128 values in registers.
struct RotationBlock {
  VF v[kRotation / W];

  LEPTON_INLINE static RotationBlock load_from(const float* x) {
    RotationBlock block;
    for (int i = 0; i < kRotation / W; ++i) block.v[i] = load(x + i * W);
    return block;
  }
};

// Sums and differences of lanes that are D apart, in every vector.
template <int D>
static inline LEPTON_INLINE void add_lanes(RotationBlock& block) {
  const VF sign = pair_signs<D>();
#pragma GCC unroll 32
  for (VF& x : block.v) x = fma(x, sign, swap_lanes<D>(x));
}

// The transform of 128 values, not normalised: longer by sqrt(128). Distances of 64, 32, ... 1 in turn, in f32: the
// same bits on every instruction set.
static inline LEPTON_INLINE void rotate(RotationBlock& block) {
  constexpr int vectors = kRotation / W;
#pragma GCC unroll 8
  for (int distance = vectors / 2; distance > 0; distance /= 2)
#pragma GCC unroll 32
    for (int i = 0; i < vectors; ++i)
      if (!(i & distance)) {
        const VF a = block.v[i], b = block.v[i + distance];
        block.v[i] = a + b;
        block.v[i + distance] = a - b;
      }
  if constexpr (W > 8) add_lanes<8>(block);
  if constexpr (W > 4) add_lanes<4>(block);
  add_lanes<2>(block);
  add_lanes<1>(block);
}

}  // namespace lepton::LEPTON_ISA
