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
template <int D, int N>
static inline LEPTON_INLINE void add_lanes(VF (&v)[N]) {
  const VF sign = pair_signs<D>();
#pragma GCC unroll 32
  for (VF& x : v) x = fma(x, sign, swap_lanes<D>(x));
}

// The transform of N * W values, a power of two, not normalised: longer by the square root of their number. Distances
// of half of them, a quarter, ... 1 in turn, in f32: the same bits on every instruction set.
template <int N>
static inline LEPTON_INLINE void rotate(VF (&v)[N]) {
#pragma GCC unroll 8
  for (int distance = N / 2; distance > 0; distance /= 2)
#pragma GCC unroll 32
    for (int i = 0; i < N; ++i)
      if (!(i & distance)) {
        const VF a = v[i], b = v[i + distance];
        v[i] = a + b;
        v[i + distance] = a - b;
      }
  if constexpr (W > 8) add_lanes<8>(v);
  if constexpr (W > 4) add_lanes<4>(v);
  add_lanes<2>(v);
  add_lanes<1>(v);
}

static inline LEPTON_INLINE void rotate(RotationBlock& block) { rotate(block.v); }

// The values of a row that are transformed together where it has one scale: the largest power of two that divides it.
static inline int row_rotation(int size) { return size & -size; }

// What makes the transform of as many values normalised.
static inline float inverse_rotation(int size) { return static_cast<float>(1.0 / __builtin_sqrt(size)); }

// m parts of a row become x - 2 / m * (the sum of all): a reflection (Householder 1958), which spreads a part that
// stands out over all of them.
static inline void reflect_parts(float* x, int size, int part) {
  const VF factor = set1(2.0f / static_cast<float>(size / part));
  for (int i = 0; i < part; i += W) {
    VF total = load(x + i);
    for (int j = i + part; j < size; j += part) total = total + load(x + j);
    total = total * factor;
    for (int j = i; j < size; j += part) store(x + j, load(x + j) - total);
  }
}

// y = a whole row of `size` values, a multiple of 128, transformed in parts as large as can be, which are reflected.
static inline void rotate_row(const float* x, int size, float* y) {
  const int part = row_rotation(size);
  for (int distance = part / 2; distance >= kRotation; distance /= 2, x = y)
    for (int i = 0; i < size; i += W)
      if (!(i & distance)) {
        const VF a = load(x + i), b = load(x + i + distance);
        store(y + i, a + b);
        store(y + i + distance, a - b);
      }
  for (int i = 0; i < size; i += kRotation) {
    RotationBlock block = RotationBlock::load_from(x + i);
    rotate(block);
    for (int p = 0; p < kRotation / W; ++p) store(y + i + p * W, block.v[p]);
  }
  if (part < size) reflect_parts(y, size, part);
}

}  // namespace lepton::LEPTON_ISA
