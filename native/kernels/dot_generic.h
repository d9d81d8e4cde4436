// Integer dot products for any machine.
#pragma once

#include <cstdint>

#include "../panels.h"

namespace lepton::LEPTON_ISA {

constexpr int kTileRows = 4;  // rows whose sums one pass keeps in registers

// Value of input j of channel ch in quad q of a packed group.
template <int BITS>
static inline int packed_value(const uint8_t* data, int q, int lane) {
  if constexpr (BITS == 8) return data[q * 64 + lane];
  const int low = (data[(q & 3) * 64 + lane] >> (q >= 4 ? 4 : 0)) & 15;
  if constexpr (BITS == 5) return low | (((data[256 + lane] >> q) & 1) << 4);
  if constexpr (BITS == 6) return low | (((data[256 + (q >> 2) * 64 + lane] >> (2 * (q & 3))) & 3) << 4);
  return low;
}

template <int BITS>
static inline void unpack_group(const uint8_t* data, uint8_t* out) {
  for (int q = 0; q < kQuads; ++q)
    for (int lane = 0; lane < 64; ++lane) out[q * 64 + lane] = static_cast<uint8_t>(packed_value<BITS>(data, q, lane));
}

// 16 channels of 32-bit sums.
struct Sums {
  int32_t v[16];
};

// out[r] = sum over quads Q0 ... Q1-1 of (u - offset) * x[r]; `sums` are the sums of each row's inputs in these quads.
template <int BITS, bool PACKED, int ROWS, int Q0, int Q1>
static inline void dot(const uint8_t* data, const int8_t* const* x, const int32_t* sums, int log2_offset, Sums* out) {
  for (int r = 0; r < ROWS; ++r) {
    const int32_t start = log2_offset ? -(sums[r] * (1 << log2_offset)) : 0;
    for (int ch = 0; ch < 16; ++ch) out[r].v[ch] = start;
  }
  for (int q = Q0; q < Q1; ++q)
    for (int lane = 0; lane < 64; ++lane) {
      const int u = PACKED ? packed_value<BITS>(data, q, lane) : data[q * 64 + lane];
      for (int r = 0; r < ROWS; ++r) out[r].v[lane >> 2] += u * x[r][q * 4 + (lane & 3)];
    }
}

static inline VF sums_to_float(const Sums& sums, int part) {
  const int32_t* v = sums.v + part * W;
  return VF{float(v[0]), float(v[1]), float(v[2]), float(v[3])};
}

}  // namespace lepton::LEPTON_ISA
