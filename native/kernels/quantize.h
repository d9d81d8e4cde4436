// Row quantisation of activations to 8 bits, shared by every op that can produce them.
#pragma once

#include "../panels.h"

namespace lepton::LEPTON_ISA {

// Below this a group is zero: the inverse of its largest value could overflow.
static inline bool is_tiny(float amax) { return amax < 0x1p-100f; }
static inline float quantize_factor(float amax) { return is_tiny(amax) ? 0.0f : 127.0f / amax; }

static inline void set_sums(int32_t first_half, int32_t second_half, float scale, Q8Group* group) {
  group->scale = scale;
  group->scaled_sum = scale * static_cast<float>(first_half + second_half);
  group->offset = -8 * (first_half + second_half);
  group->first_half = -8 * first_half;
}

// 32 values -> scale = max|x| / 127, q = round_half_even(x * (127 / max|x|)), and what else kernels need of them.
// A group with an infinity or NaN has a scale that is not finite, so that the outputs say so.
static inline void quantize_group(const float* x, Q8Group* group) {
  VF largest = set1(0.0f);
  for (int i = 0; i < kGroup; i += W) largest = max_abs(largest, load(x + i));
  const float amax = reduce_max_abs(largest);
  int32_t sums[2] = {0, 0};
  float scale;
  if (amax <= 3.4028235e38f) {
    scale = is_tiny(amax) ? 0.0f : amax / 127.0f;
    quantize_values(x, set1(quantize_factor(amax)), group->q, sums);
  } else {
    scale = __builtin_nanf("");
    __builtin_memset(group->q, 0, kGroup);
  }
  set_sums(sums[0], sums[1], scale, group);
}

// What quantize_group left of x, in 256ths of its steps: rest = min(127, round_half_even((x * factor - q) * 256)).
static inline void quantize_rest(const float* x, const Q8Group& first, Q8Group* group) {
  VF largest = set1(0.0f);
  for (int i = 0; i < kGroup; i += W) largest = max_abs(largest, load(x + i));
  const float amax = reduce_max_abs(largest);
  int32_t sums[2] = {0, 0};
  if (amax <= 3.4028235e38f) {
    const VF factor = set1(quantize_factor(amax));
    alignas(64) float rest[kGroup];
    for (int i = 0; i < kGroup; i += W) {
      const VF left = load(x + i) * factor - load_scales(first.q + i);
      store(rest + i, min(set1(127.0f), round(left * set1(256.0f))));
    }
    quantize_values(rest, set1(1.0f), group->q, sums);
  } else {
    __builtin_memset(group->q, 0, kGroup);
  }
  const int32_t half = first.first_half / -8, other = (first.offset - first.first_half) / -8;
  set_sums(256 * half + sums[0], 256 * other + sums[1], first.scale / 256.0f, group);
}

// 32 values as q8 or q16, whose second row starts `row_bytes` after the first.
static inline void quantize_terms(const float* x, Q8Group* group, int64_t row_bytes, Terms terms) {
  quantize_group(x, group);
  if (terms > 1) quantize_rest(x, *group, reinterpret_cast<Q8Group*>(reinterpret_cast<uint8_t*>(group) + row_bytes));
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
