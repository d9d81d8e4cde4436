// Packing: rows of a checkpoint's storage types become panels.
#pragma once

#include <cstdint>
#include <string>

#include "panels.h"

namespace lepton {

enum class StorageType { F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K };

// The type of this name; throws std::invalid_argument for another.
StorageType parse_storage_type(const std::string& name);

// Bytes of one row of `num_inputs` values; throws std::invalid_argument if the type's blocks do not divide it.
int64_t storage_row_bytes(StorageType type, int64_t num_inputs);

// The panel kind that holds a type at its own size. `quantize`: wide types are held in 8 bits instead.
PanelKind kind_for(StorageType type, bool quantize);

// Packs panel `index` of a [num_outputs, num_inputs] matrix. `kind` is kind_for(type, ...).
void pack_panel(StorageType type, PanelKind kind, const uint8_t* rows, int64_t num_outputs, int64_t num_inputs,
                int64_t index, uint8_t* panel);

}  // namespace lepton
