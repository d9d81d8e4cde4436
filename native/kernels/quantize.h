// Row quantisation of activations to 8 bits, shared by every op that can produce them.
#pragma once

#include "../panels.h"

namespace lepton::LEPTON_ISA {

// 32 values -> group g of a Q8 row: scale = max|x| / 127, q = round_half_even(x * (127 / max|x|)), sums beside them.
// A group below 2^-100 is zero (its inverse could overflow); one with an infinity or NaN has a scale that is not
// finite, so that the outputs say so.
static inline void quantize_group(const float* x, uint8_t* row, const Q8Row& layout, int64_t g) {
  VF largest = set1(0.0f);
  for (int i = 0; i < kGroup; i += W) largest = max_abs(largest, load(x + i));
  const float amax = reduce_max_abs(largest);
  int8_t* q = reinterpret_cast<int8_t*>(row) + g * kGroup;
  int32_t* half_sum = reinterpret_cast<int32_t*>(row + layout.half_sum_offset()) + 2 * g;
  float scale;
  if (amax <= 3.4028235e38f) {
    const bool is_zero = amax < 0x1p-100f;
    scale = is_zero ? 0.0f : amax / 127.0f;
    quantize_values(x, set1(is_zero ? 0.0f : 127.0f / amax), q, half_sum);
  } else {
    scale = __builtin_nanf("");
    __builtin_memset(q, 0, kGroup);
    half_sum[0] = half_sum[1] = 0;
  }
  const int32_t sum = half_sum[0] + half_sum[1];
  reinterpret_cast<float*>(row + layout.scale_offset())[g] = scale;
  reinterpret_cast<float*>(row + layout.scaled_sum_offset())[g] = scale * static_cast<float>(sum);
  reinterpret_cast<int32_t*>(row + layout.sum_offset())[g] = sum;
}

// A whole row of `size` values as q8 (one term) or q16 (two: the second is fma(-q, scale, x) quantised the same way);
// the last group is filled up with zeros.
static inline void quantize_row(const float* x, uint8_t* row, int32_t size, Terms terms) {
  const Q8Row layout(size);
  for (int64_t g = 0; g < layout.groups; ++g) {
    alignas(64) float group[kGroup] = {};
    const int64_t count = size - g * kGroup < kGroup ? size - g * kGroup : kGroup;
    __builtin_memcpy(group, x + g * kGroup, sizeof(float) * count);
    quantize_group(group, row, layout, g);
    if (terms < 2) continue;
    const int8_t* q = reinterpret_cast<const int8_t*>(row) + g * kGroup;
    const VF scale = set1(reinterpret_cast<const float*>(row + layout.scale_offset())[g]);
    for (int i = 0; i < kGroup; i += W) store(group + i, fma(set1(0.0f) - load_scales(q + i), scale, load(group + i)));
    quantize_group(group, row + layout.bytes(), layout, g);
  }
}

}  // namespace lepton::LEPTON_ISA
