// Row quantisation of activations to 8 bits, shared by every op that can produce them.
#pragma once

#include "../panels.h"

namespace lepton::LEPTON_ISA {

// 32 values -> scale = max|x| / 127, q = round_half_even(x * (127 / max|x|)), and what else kernels need of them.
// A group below 2^-100 is zero (its inverse could overflow); one with an infinity or NaN has a scale that is not
// finite, so that the outputs say so.
static inline void quantize_group(const float* x, Q8Group* group) {
  VF largest = set1(0.0f);
  for (int i = 0; i < kGroup; i += W) largest = max_abs(largest, load(x + i));
  const float amax = reduce_max_abs(largest);
  int32_t sums[2] = {0, 0};
  float scale;
  if (amax <= 3.4028235e38f) {
    const bool is_zero = amax < 0x1p-100f;
    scale = is_zero ? 0.0f : amax / 127.0f;
    quantize_values(x, set1(is_zero ? 0.0f : 127.0f / amax), group->q, sums);
  } else {
    scale = __builtin_nanf("");
    __builtin_memset(group->q, 0, kGroup);
  }
  group->scale = scale;
  group->scaled_sum = scale * static_cast<float>(sums[0] + sums[1]);
  group->offset = -8 * (sums[0] + sums[1]);
  group->first_half = -8 * sums[0];
}

// 32 values as q8, or as q16 whose second row is fma(-q, scale, x) quantised the same way.
static inline void quantize_terms(const float* x, Q8Group* group, int64_t row_bytes, Terms terms) {
  quantize_group(x, group);
  if (terms < 2) return;
  alignas(64) float rest[kGroup];
  for (int i = 0; i < kGroup; i += W)
    store(rest + i, fma(set1(0.0f) - load_scales(group->q + i), set1(group->scale), load(x + i)));
  quantize_group(rest, reinterpret_cast<Q8Group*>(reinterpret_cast<uint8_t*>(group) + row_bytes));
}

// A whole row of `size` values; the last group is filled up with zeros.
static inline void quantize_row(const float* x, uint8_t* row, int32_t size, Terms terms) {
  Q8Group* groups = reinterpret_cast<Q8Group*>(row);
  const int64_t row_bytes = q8_row_bytes(size), full = size / kGroup;
  for (int64_t g = 0; g < full; ++g) quantize_terms(x + g * kGroup, groups + g, row_bytes, terms);
  if (full * kGroup == size) return;
  alignas(64) float last[kGroup] = {};
  __builtin_memcpy(last, x + full * kGroup, sizeof(float) * (size - full * kGroup));
  quantize_terms(last, groups + full, row_bytes, terms);
}

}  // namespace lepton::LEPTON_ISA
