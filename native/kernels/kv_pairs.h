// Heads of the cache as bf16, in pairs as the tile registers of AMX multiply them: of keys, two dimensions of a token
// lie together; of values, two tokens of a dimension.
#pragma once

#include "kv_codes.h"
#include "transpose.h"

namespace lepton::LEPTON_ISA {

// Rounded to the nearest, ties to even. NaN stays NaN.
static inline uint16_t to_bf16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  const uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
  return static_cast<uint16_t>((x != x ? bits | 0x400000 : rounded) >> 16);
}

static inline float from_bf16(uint16_t x) {
  const uint32_t bits = uint32_t{x} << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

// What a block holds of one KV head.
struct PairedHead {
  uint16_t* keys;    // [D / 2][16 tokens][2 dimensions]
  uint16_t* values;  // [D / 16][8][16 dimensions][2 tokens]

  PairedHead(uint8_t* head, int D) : keys(reinterpret_cast<uint16_t*>(head)), values(keys + kBlockTokens * D) {}

  LEPTON_INLINE uint16_t& key(int slot, int d) const { return keys[(d / 2 * kBlockTokens + slot) * 2 + d % 2]; }
  LEPTON_INLINE uint16_t& value(int slot, int d) const {
    return values[(d / kPanelWidth * kBlockTokens + slot / 2 * 2) * kPanelWidth + d % kPanelWidth * 2 + slot % 2];
  }
};

static inline void put_pairs(const float* key, const float* value, int D, int slot, const PairedHead& to) {
  for (int d = 0; d < D; ++d) to.key(slot, d) = to_bf16(key[d]);
  for (int d = 0; d < D; ++d) to.value(slot, d) = to_bf16(value[d]);
}

// The keys of W tokens from `slot` on: pairs of dimensions are transposed in registers.
static inline void put_paired_keys(const float* const* keys, int D, int slot, const PairedHead& to) {
  alignas(64) uint16_t rows[W][kMaxHeadDim];
  const int whole = D / (2 * W) * (2 * W);
  for (int i = 0; i < W; ++i) {
    for (int d = 0; d < whole; ++d) rows[i][d] = to_bf16(keys[i][d]);
    for (int d = whole; d < D; ++d) to.key(slot + i, d) = to_bf16(keys[i][d]);
  }
  for (int d = 0; d < whole; d += 2 * W) {
    VF lanes[W];
    for (int i = 0; i < W; ++i) lanes[i] = load(reinterpret_cast<const float*>(rows[i] + d));
    transpose(lanes);
    for (int i = 0; i < W; ++i) store(reinterpret_cast<float*>(to.keys) + (d / 2 + i) * kBlockTokens + slot, lanes[i]);
  }
}

// The values of two tokens, from an even `slot` on.
static inline void put_paired_values(const float* first, const float* second, int D, int slot, const PairedHead& to) {
  for (int d = 0; d < D; d += kPanelWidth)
    for (int i = 0; i < kPanelWidth; ++i) {
      const uint32_t pair = to_bf16(first[d + i]) | uint32_t{to_bf16(second[d + i])} << 16;
      __builtin_memcpy(&to.value(slot, d) + 2 * i, &pair, sizeof pair);
    }
}

}  // namespace lepton::LEPTON_ISA
