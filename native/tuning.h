// What may differ from machine to machine and changes no bit of a result: backends/cpu/tuning.py says what is allowed.
#pragma once

#include <cstdint>

namespace lepton {

struct Tuning {
  int32_t prefetch_bytes = 4096;  // how far ahead few rows ask for weights, which they read once
  int32_t row_block = 120;        // rows that share one unpacking of a panel; their sums and activations stay in L2
  int32_t min_tile_rows = 0;      // of groups with a scale each: fewer are multiplied without tiles; 0: there are none
  // Few rows cut a product into a first chunk for each thread, of so many eighths of its even share, and later ones, of
  // which an even share would be so many.
  int32_t first_eighths = 7;
  int32_t rest_chunks = 16;
};

constexpr int32_t kMinRowBlock = 64, kMaxRowBlock = 512;
constexpr int32_t kRowsOfTile = 16;

}  // namespace lepton
