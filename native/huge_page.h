// The large pages that weights lie in.
#pragma once

#include <cstdint>

namespace lepton {

constexpr int64_t kHugePage = 2 << 20;  // bytes

}  // namespace lepton
