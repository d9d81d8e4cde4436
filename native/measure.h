// What `lepton doctor` measures of the machine itself.
#pragma once

#include "device.h"

namespace lepton {

// Bytes a second that all threads together read from a buffer of this size: the better of a few passes.
double measure_read_bandwidth(ThreadPool& pool, int64_t num_bytes);

}  // namespace lepton
