// Heads of the cache as codes of one byte or two, for processors that multiply bytes, with a scale for a whole head of
// a token. The bytes are kept plus 128, in quads as in a panel of 8-bit weights: of keys, tokens are its channels; of
// values, the head's dimensions are, and tokens its inputs. High and low bytes lie apart.
#pragma once

#include "../step.h"
#include "codes16.h"

namespace lepton::LEPTON_ISA {

constexpr int kMaxHeadDim = 256;
constexpr int kStripBytes = kBlockTokens * kPanelWidth;  // of a block's tokens times 16 dimensions

// What a block holds of one KV head, in codes of BYTES.
template <int BYTES>
struct CodedHead {
  uint8_t* keys;    // [BYTES: high, low][D / 4][16 tokens][4 dimensions]
  uint8_t* values;  // [BYTES: high, low][D / 16][4][16 dimensions][4 tokens]
  float* key_scales;
  float* value_scales;
  // Of codes of one byte (kv_codes8.h).
  int8_t* base;  // [D]
  float* base_scale;

  CodedHead(uint8_t* head, int D)
      : keys(head),
        values(keys + BYTES * kBlockTokens * D),
        key_scales(reinterpret_cast<float*>(values + BYTES * kBlockTokens * D)),
        value_scales(key_scales + kBlockTokens),
        base(reinterpret_cast<int8_t*>(value_scales + kBlockTokens)),
        base_scale(reinterpret_cast<float*>(base + D)) {}
};

// See KVSpec.bytes_per_token: a base takes as much as one byte for each token and 16 channels, and one more. Blocks are
// whole cache lines.
template <int BYTES>
static inline int64_t coded_head_bytes(int D) {
  const int64_t bytes = int64_t{2} * kBlockTokens * (BYTES * D + 4) + (BYTES == 1 ? D + kBlockTokens : 0);
  return (bytes + 63) / 64 * 64;
}

typedef uint8_t VBytes16 __attribute__((vector_size(16)));
typedef uint32_t VLanes16 __attribute__((vector_size(64)));

static inline VLanes16 bytes_of(const int8_t* codes) {
  VBytes16 bytes;
  __builtin_memcpy(&bytes, codes, sizeof bytes);
  return __builtin_convertvector(bytes ^ 128, VLanes16);
}

// The bytes of a token's key go to its lane of each quad.
static inline void put_key(const int8_t* bytes, int D, int slot, uint8_t* plane) {
  for (int d = 0; d < D; d += 4) {
    uint32_t quad;
    __builtin_memcpy(&quad, bytes + d, 4);
    quad ^= 0x80808080u;
    __builtin_memcpy(plane + (d * kBlockTokens + 4 * slot), &quad, 4);
  }
}

static inline void put_value(const int8_t* bytes, int D, int slot, uint8_t* plane) {
  for (int d = 0; d < D; ++d)
    plane[d / kPanelWidth * kStripBytes + slot / 4 * 64 + d % kPanelWidth * 4 + slot % 4] =
        static_cast<uint8_t>(bytes[d] ^ 128);
}

// The bytes of four tokens' values, rows of `stride`, are a quad of every strip.
static inline void put_values(const int8_t* bytes, int64_t stride, int D, int quad, uint8_t* plane) {
  for (int d = 0; d < D; d += kPanelWidth) {
    const VLanes16 lanes = bytes_of(bytes + d) | bytes_of(bytes + stride + d) << 8 |
                           bytes_of(bytes + 2 * stride + d) << 16 | bytes_of(bytes + 3 * stride + d) << 24;
    __builtin_memcpy(plane + d / kPanelWidth * kStripBytes + quad * 64, &lanes, sizeof lanes);
  }
}

}  // namespace lepton::LEPTON_ISA
