// Row quantisation of activations to 8 bits, shared by every op that can produce them.
#pragma once

#include "../panels.h"

namespace lepton::LEPTON_ISA {

// 32 values -> group g of a Q8 row: scale = max|x| / 127, q = round_half_even(x * (127 / max|x|)), sums beside them.
// A group below 2^-100 is zero (its inverse could overflow); one with an infinity or NaN has a scale that is not finite,
// so that the outputs say so.
static inline void quantize_group(const float* x, uint8_t* row, const Q8Row& layout, int64_t g) {
  VF largest = abs(load(x));
  for (int i = W; i < kGroup; i += W) largest = max(largest, abs(load(x + i)));
  const float amax = reduce_max(largest);
  const bool is_zero = amax < 0x1p-100f;
  float scale = is_zero ? 0.0f : amax / 127.0f;
  const float inverse = is_zero ? 0.0f : 127.0f / amax;
  int8_t* q = reinterpret_cast<int8_t*>(row) + g * kGroup;
  const VF factor = set1(inverse);
  float half[2];
  for (int h = 0; h < 2; ++h) {
    VF sum = set1(0.0f);
    for (int i = h * 16; i < h * 16 + 16; i += W) {
      const VF rounded = round(load(x + i) * factor);
      store_int8(q + i, rounded);
      sum = sum + rounded;
    }
    half[h] = reduce_add(sum);
  }
  if (!(half[0] + half[1] <= 32 * 127.0f && amax <= 3.4028235e38f)) {
    __builtin_memset(q, 0, kGroup);
    half[0] = half[1] = 0.0f;
    scale = __builtin_nanf("");
  }
  reinterpret_cast<float*>(row + layout.scale_offset())[g] = scale;
  reinterpret_cast<float*>(row + layout.scaled_sum_offset())[g] = scale * (half[0] + half[1]);
  reinterpret_cast<int32_t*>(row + layout.sum_offset())[g] = static_cast<int32_t>(half[0] + half[1]);
  int32_t* half_sum = reinterpret_cast<int32_t*>(row + layout.half_sum_offset()) + 2 * g;
  half_sum[0] = static_cast<int32_t>(half[0]);
  half_sum[1] = static_cast<int32_t>(half[1]);
}

// A whole row of `size` values; the last group is filled up with zeros.
static inline void quantize_row(const float* x, uint8_t* row, int32_t size) {
  const Q8Row layout(size);
  const int64_t full = size / kGroup;
  for (int64_t g = 0; g < full; ++g) quantize_group(x + g * kGroup, row, layout, g);
  if (full < layout.groups) {
    float tail[kGroup] = {};
    for (int64_t i = full * kGroup; i < size; ++i) tail[i - full * kGroup] = x[i];
    quantize_group(tail, row, layout, full);
  }
}

}  // namespace lepton::LEPTON_ISA
