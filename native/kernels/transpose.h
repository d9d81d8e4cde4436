// W vectors of W lanes, transposed in registers.
#pragma once

#include "../panels.h"
#include "lanes.h"

namespace lepton::LEPTON_ISA {

// Of rows that are D apart, the blocks of D lanes off the diagonal change places.
template <int D>
static inline LEPTON_INLINE void exchange_blocks(VF (&v)[W]) {
  const VF sign = pair_signs<D>(), zero = set1(0.0f);
#pragma GCC unroll 16
  for (int i = 0; i < W; ++i)
    if (!(i & D)) {
      const VF a = v[i], b = v[i + D];
      v[i] = select_less(sign, zero, swap_lanes<D>(b), a);
      v[i + D] = select_less(sign, zero, b, swap_lanes<D>(a));
    }
}

static inline LEPTON_INLINE void transpose(VF (&v)[W]) {
  if constexpr (W > 8) exchange_blocks<8>(v);
  if constexpr (W > 4) exchange_blocks<4>(v);
  exchange_blocks<2>(v);
  exchange_blocks<1>(v);
}

}  // namespace lepton::LEPTON_ISA
