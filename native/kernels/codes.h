// How codes lie in the planes of a group (panels.h), once for every instruction set.
#pragma once

#include "../panels.h"

namespace lepton::LEPTON_ISA {

// Quad q of the channels from `data` on, as unsigned bytes: weights of BITS in codes of STORED bits, 8 when unpacked.
template <int BITS, int STORED>
static inline LEPTON_INLINE VB load_quad(const uint8_t* data, int q) {
  if constexpr (STORED == 8) {
    return load_bytes(data + q * 64);
  } else if constexpr (STORED < 4) {
    const VB low = move_bits(load_bytes(data + (q >> 2) * 64), -2 * (q & 3), 3);
    if constexpr (STORED == 3)
      return low | move_bits(load_bytes(data + 128), 2 - q, 4);
    else
      return low;
  } else {
    const VB low = move_bits(load_bytes(data + (q & 3) * 64), -(q & 4), 15);
    if constexpr (STORED == 5)
      return low | move_bits(load_bytes(data + 256), 4 - q, 16);
    else if constexpr (STORED == 6)
      return low | move_bits(load_bytes(data + 256 + (q >> 2) * 64), 4 - 2 * (q & 3), 48);
    else if constexpr (BITS == 8)
      return look_up(kCodebook, low);
    else
      return low;
  }
}

template <int BITS, int STORED>
static inline void unpack_group(const uint8_t* data, uint8_t* out) {
#pragma GCC unroll 8
  for (int q = 0; q < kQuads; ++q)
    for (int part = 0; part < 64; part += static_cast<int>(sizeof(VB)))
      store_bytes(out + q * 64 + part, load_quad<BITS, STORED>(data + part, q));
}

}  // namespace lepton::LEPTON_ISA
