// The tile registers of AMX (Intel Architecture Instruction Set Extensions, chapter 3).
//
// A tile of activations is 16 rows of some inputs; one of weights is the quads of as many, 64 bytes each, as they lie
// in a panel; one of sums is 16 rows of 16 channels. What GCC has for them does not say that it reads memory, so the
// instructions are written here.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <utility>

#include "../panels.h"

namespace lepton::LEPTON_ISA {

constexpr int kTileHeight = 16;  // rows of a tile of activations and of sums
constexpr int kTileSums = kTileHeight * kPanelWidth;

// Tiles 0 to 3 are sums, 4 and 5 activations, 6 and 7 weights.
struct alignas(64) TileLayout {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  // Of tiles of `inputs` inputs, at most 64.
  constexpr explicit TileLayout(int inputs) {
    for (int tile = 0; tile < 8; ++tile) {
      row_bytes[tile] = static_cast<uint16_t>(tile == 4 || tile == 5 ? inputs : 64);
      rows[tile] = static_cast<uint8_t>(tile < 6 ? kTileHeight : inputs / 4);
    }
  }
};
static_assert(sizeof(TileLayout) == 64);

template <int INPUTS>
static constexpr TileLayout kTileLayout{INPUTS};

static inline void configure_tiles(const TileLayout& layout) { asm volatile("ldtilecfg %0" ::"m"(layout)); }

template <int INPUTS>
static inline void configure_tiles() {
  configure_tiles(kTileLayout<INPUTS>);
}
// What vectors do to what goes into tiles and comes out of them.
static inline VB subtract_bytes(VB v, int offset) {
  return _mm512_sub_epi8(v, _mm512_set1_epi8(static_cast<char>(offset)));
}
// Bytes plus 128, as signed ones without it.
static inline VB flip_signs(VB v) { return _mm512_xor_si512(v, _mm512_set1_epi8(-128)); }
// 256 * high + low.
static inline VI join_bytes(VI high, VI low) { return _mm512_add_epi32(_mm512_slli_epi32(high, 8), low); }
static inline VI add_int(VI v, int32_t x) { return _mm512_add_epi32(v, _mm512_set1_epi32(x)); }

// A thread whose tiles are in use takes longer to be switched.
static inline void release_tiles() { asm volatile("tilerelease" ::: "memory"); }

template <int TILE>
static inline LEPTON_INLINE void load_tile(const void* data, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(data), "r"(stride), "i"(TILE) : "memory");
}
template <int TILE>
static inline LEPTON_INLINE void store_tile(void* data, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(data), "r"(stride), "i"(TILE) : "memory");
}
template <int TILE>
static inline LEPTON_INLINE void zero_tile() {
  asm volatile("tilezero %%tmm%c0" ::"i"(TILE));
}
// sums += activations x weights, both signed.
template <int SUMS, int X, int WEIGHTS>
static inline LEPTON_INLINE void multiply_signed() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(SUMS), "i"(X), "i"(WEIGHTS));
}
// The same with unsigned weights.
template <int SUMS, int X, int WEIGHTS>
static inline LEPTON_INLINE void multiply_unsigned() {
  asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(SUMS), "i"(X), "i"(WEIGHTS));
}

// The same of pairs of bf16, whose sums are f32.
template <int SUMS, int X, int WEIGHTS>
static inline LEPTON_INLINE void multiply_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(SUMS), "i"(X), "i"(WEIGHTS));
}
// W values, rounded to the nearest, ties to even.
static inline void store_bf16(uint16_t* to, VF v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}

// Calls `run` with the constants 0, 1, ... COUNT - 1.
template <int COUNT, class Run>
static inline LEPTON_INLINE void for_constants(const Run& run) {
  [&]<int... N>(std::integer_sequence<int, N...>)
      LEPTON_INLINE { (run.template operator()<N>(), ...); }(std::make_integer_sequence<int, COUNT>());
}

}  // namespace lepton::LEPTON_ISA
