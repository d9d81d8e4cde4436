// Packing: rows of a checkpoint's storage types become panels.
#pragma once

#include <cstdint>
#include <string>

#include "panels.h"

namespace lepton {

// Name, elements and bytes of a block, and the kind of panel that holds the type.
#define LEPTON_STORAGE_TYPES(X) \
  X(F32, 1, 4, F32)             \
  X(F16, 1, 2, F16)             \
  X(BF16, 1, 2, BF16)           \
  X(Q4_0, 32, 18, U4)           \
  X(Q4_1, 32, 20, U4M)          \
  X(Q5_0, 32, 22, U5)           \
  X(Q5_1, 32, 24, U5M)          \
  X(Q8_0, 32, 34, U8)           \
  X(Q2_K, 256, 84, U2K)         \
  X(Q3_K, 256, 110, U3K)        \
  X(Q4_K, 256, 144, U4K)        \
  X(Q5_K, 256, 176, U5K)        \
  X(Q6_K, 256, 210, U6K)        \
  X(IQ4_NL, 32, 18, T4)         \
  X(IQ4_XS, 256, 136, T4K)      \
  X(INT4_G32, 32, 21, Z4)       \
  X(INT4_G128, 128, 69, Z4x4)   \
  X(INT8_G32, 32, 37, Z8)       \
  X(INT8_G128, 128, 133, Z8x4)
#define LEPTON_STORAGE_NAME(name, block, bytes, kind) name,
enum class StorageType { LEPTON_STORAGE_TYPES(LEPTON_STORAGE_NAME) };
#undef LEPTON_STORAGE_NAME

// The type of this name; throws std::invalid_argument for another.
StorageType parse_storage_type(const std::string& name);

// Bytes of one row of `num_inputs` values; throws std::invalid_argument if the type's blocks do not divide it.
int64_t storage_row_bytes(StorageType type, int64_t num_inputs);

// How wide types are held: as they are stored, in 8 bits, or rotated and in 8 bits.
enum class Narrowing { None, Q8, R8, R8Row };

// The one of this name: none, q8 or r8; throws std::invalid_argument for another.
Narrowing parse_narrowing(const std::string& name);

// The panel kind that holds a type, at its own size unless it is wide and narrowed.
PanelKind kind_for(StorageType type, Narrowing narrowing);

// Packs panel `index` of a [num_outputs, num_inputs] matrix. `kind` is kind_for(type, ...); rows that are
// rotated are whole rotations long.
void pack_panel(StorageType type, PanelKind kind, const uint8_t* rows, int64_t num_outputs, int64_t num_inputs,
                int64_t index, uint8_t* panel);

}  // namespace lepton
