// Row quantisation of activations to 8 bits, shared by every op that can produce them.
#pragma once

#include "../panels.h"
#include "../step.h"
#include "rotate.h"

namespace lepton::LEPTON_ISA {

// Below this a group is zero: the inverse of its largest value could overflow.
static inline bool is_tiny(float amax) { return amax < 0x1p-100f; }
static inline bool is_finite(float amax) { return amax <= 3.4028235e38f; }
static inline float quantize_factor(float amax) { return is_tiny(amax) ? 0.0f : 127.0f / amax; }
static inline float quantize_scale(float amax) {
  return !is_finite(amax) ? __builtin_nanf("") : is_tiny(amax) ? 0.0f : amax / 127.0f;
}

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
  if (is_finite(amax))
    quantize_values(x, set1(quantize_factor(amax)), group->q, sums);
  else
    __builtin_memset(group->q, 0, kGroup);
  set_sums(sums[0], sums[1], quantize_scale(amax), group);
}

// What quantize_group left of x, in 256ths of its steps: rest = min(127, round_half_even((x * factor - q) * 256)).
static inline void quantize_rest(const float* x, const Q8Group& first, Q8Group* group) {
  VF largest = set1(0.0f);
  for (int i = 0; i < kGroup; i += W) largest = max_abs(largest, load(x + i));
  const float amax = reduce_max_abs(largest);
  int32_t sums[2] = {0, 0};
  if (is_finite(amax)) {
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

// The largest magnitudes of a block, lane by lane. Several at a time: what takes time is how long one waits for the one
// before it.
static inline LEPTON_INLINE VF largest_lanes(const RotationBlock& block) {
  VF largest[4] = {};
  for (int i = 0; i < kRotation / W; ++i) largest[i % 4] = max_abs(largest[i % 4], block.v[i]);
  return max_abs(max_abs(largest[0], largest[1]), max_abs(largest[2], largest[3]));
}

// The codes of a block whose largest value, or that of its row, is `amax`. Returns their sums, lane by lane.
static inline LEPTON_INLINE VF round_block(RotationBlock& block, float amax, int8_t* to) {
  VF totals[4] = {};
  const bool has_codes = is_finite(amax);
  const VF factor = set1(quantize_factor(amax));
#pragma GCC unroll 32
  for (int i = 0; i < kRotation / W; ++i) {
    block.v[i] = has_codes ? round(block.v[i] * factor) : set1(0.0f);
    totals[i % 4] = totals[i % 4] + block.v[i];  // exact, like all sums of so few integers
  }
  for (int g = 0; g < kRotationGroups; ++g) store_codes(to + g * kGroup, block.v + g * (kGroup / W));
  return (totals[0] + totals[1]) + (totals[2] + totals[3]);
}

// 128 values, rotated: q by the rule of quantize_group with the largest of all, scale = max|x| / 127 / sqrt(128).
static inline LEPTON_INLINE void quantize_rotated(RotationBlock block, R8Block* to) {
  rotate(block);
  const float amax = reduce_max_abs(largest_lanes(block)), total = reduce_add(round_block(block, amax, to->q));
  to->scale = quantize_scale(amax) * kInverseRotation;
  to->offset = -8 * static_cast<int32_t>(total);
}

// A whole row, rotated as such, by the largest of all. `rotated` has room for `size` values; it may be x.
static inline void quantize_rotated_row(const float* x, float* rotated, int32_t size, uint8_t* row) {
  rotate_row(x, size, rotated);
  VF largest = set1(0.0f), totals = set1(0.0f);
  for (int i = 0; i < size; i += kRotation)
    largest = max_abs(largest, largest_lanes(RotationBlock::load_from(rotated + i)));
  const float amax = reduce_max_abs(largest);
  for (int i = 0; i < size; i += kRotation) {
    RotationBlock block = RotationBlock::load_from(rotated + i);
    totals = totals + round_block(block, amax, reinterpret_cast<int8_t*>(row) + i);
  }
  R8RowTail* tail = reinterpret_cast<R8RowTail*>(row + size);
  tail->scale = quantize_scale(amax) * inverse_rotation(row_rotation(size));
  tail->offset = -8 * static_cast<int32_t>(reduce_add(totals));
}

// 32 values as q8 or q16, whose second row starts `row_bytes` after the first.
static inline void quantize_terms(const float* x, Q8Group* group, int64_t row_bytes, RowType type) {
  quantize_group(x, group);
  if (type == RowType::Q16)
    quantize_rest(x, *group, reinterpret_cast<Q8Group*>(reinterpret_cast<uint8_t*>(group) + row_bytes));
}

// A whole row of `size` values; the last group is filled up with zeros. Only multiples of 128 are rotated. `scratch`
// has room for as many values; it may be x.
static inline void quantize_row(const float* x, float* scratch, uint8_t* row, int32_t size, RowType type) {
  if (type == RowType::R8Row) return quantize_rotated_row(x, scratch, size, row);
  if (type == RowType::R8) {
    R8Block* blocks = reinterpret_cast<R8Block*>(row);
    for (int i = 0; i < size; i += kRotation) quantize_rotated(RotationBlock::load_from(x + i), blocks + i / kRotation);
    return;
  }
  Q8Group* groups = reinterpret_cast<Q8Group*>(row);
  const int64_t row_bytes = q8_row_bytes(size), full = size / kGroup;
  for (int64_t g = 0; g < full; ++g) quantize_terms(x + g * kGroup, groups + g, row_bytes, type);
  if (full * kGroup == size) return;
  alignas(64) float last[kGroup] = {};
  __builtin_memcpy(last, x + full * kGroup, sizeof(float) * (size - full * kGroup));
  quantize_terms(last, groups + full, row_bytes, type);
}

}  // namespace lepton::LEPTON_ISA
