// Heads of the cache in one byte: codes by the rule of quantize.h.
//
// Heads are rotated first (rotate.h), queries like keys, and what comes of values is rotated back: so no channel stands
// out, and one scale serves all. What all keys of a block have in common, a bias above all, would still take the codes
// of what sets them apart. So a block has a base, the key of its first token in 8 bits, and the codes of each key are
// of what it is apart from that.
#pragma once

#include "kv_codes.h"

namespace lepton::LEPTON_ISA {

// Values of a head of D that are rotated together: the largest power of two that divides D, 16 to 256. Products of
// rotated heads are larger by as much.
static inline int head_rotation(int D) { return D & -D; }

template <int SIZE>
static inline void rotate_parts(float* x, int D) {
  for (int first = 0; first < D; first += SIZE) {
    VF v[SIZE / W];
    for (int i = 0; i < SIZE / W; ++i) v[i] = load(x + first + i * W);
    rotate(v);
    for (int i = 0; i < SIZE / W; ++i) store(x + first + i * W, v[i]);
  }
}

static void rotate_head_values(float* x, int D) {
  switch (head_rotation(D)) {
    case 16: return rotate_parts<16>(x, D);
    case 32: return rotate_parts<32>(x, D);
    case 64: return rotate_parts<64>(x, D);
    case 128: return rotate_parts<128>(x, D);
    default: return rotate_parts<256>(x, D);
  }
}

// A head of D values becomes its codes, as f32. Returns their scale.
static inline float round_head(float* x, int D) {
  VF largest = set1(0.0f);
  for (int d = 0; d < D; d += W) largest = max_abs(largest, load(x + d));
  const float amax = reduce_max_abs(largest);
  const bool has_codes = is_finite(amax);
  const VF factor = set1(quantize_factor(amax));
  for (int d = 0; d < D; d += W) store(x + d, has_codes ? round(load(x + d) * factor) : set1(0.0f));
  return quantize_scale(amax);
}

static inline void store_head_codes(const float* codes, int D, int8_t* to) {
  for (int d = 0; d < D; ++d) to[d] = static_cast<int8_t>(codes[d]);
}

// The base of a block by the rotated key of its first token: codes as f32 in `base`, and their scale.
static inline float make_base(const float* key, int D, float* base) {
  __builtin_memcpy(base, key, sizeof(float) * D);
  return round_head(base, D);
}

// A rotated key less the base becomes its codes. Returns their scale.
static inline float round_key(float* key, const float* base, float base_scale, int D) {
  for (int d = 0; d < D; d += W) store(key + d, load(key + d) - load(base + d) * set1(base_scale));
  return round_head(key, D);
}

}  // namespace lepton::LEPTON_ISA
