// The products of attention_codes.h by tiles of 16 rows: the same integers, scaled in the same order, so the same
// bits.
#pragma once

#include "attention_codes.h"
#include LEPTON_TILES

namespace lepton::LEPTON_ISA {

// Tiles of sums of 16 rows and 16 keys or dimensions.
struct CodedTileSums {
  alignas(64) int32_t high[kTileSums], mixed[kTileSums];

  // Row r, in 256ths.
  LEPTON_INLINE VI row(int r) const {
    return join_bytes(load_int(high + r * kPanelWidth), load_int(mixed + r * kPanelWidth));
  }
};

template <bool SIGNED, int SUMS, int X, int WEIGHTS>
static inline LEPTON_INLINE void multiply_bytes() {
  if constexpr (SIGNED)
    multiply_signed<SUMS, X, WEIGHTS>();
  else
    multiply_unsigned<SUMS, X, WEIGHTS>();
}

template <int BYTES>
static inline LEPTON_INLINE void load_panel(CodedQuads w, int first) {
  load_tile<6>(w.high + first * kPanelWidth, 64);
  if constexpr (BYTES == 2) load_tile<7>(w.low + first * kPanelWidth, 64);
}

// Adds the products of a panel's quads with the bytes of 16 rows, from input `first` on, to tiles FIRST and FIRST + 1.
template <int BYTES, int FIRST, bool SIGNED>
static inline LEPTON_INLINE void add_in_tiles(const int8_t* high, const int8_t* low, int64_t stride) {
  load_tile<4>(high, stride);
  if constexpr (BYTES == 2) multiply_bytes<SIGNED, FIRST + 1, 4, 7>();
  multiply_bytes<SIGNED, FIRST, 4, 6>();
  load_tile<5>(low, stride);
  multiply_bytes<SIGNED, FIRST + 1, 5, 6>();
}

// The inputs [begin, end) of rows, INPUTS to a tile.
struct InputRange {
  int begin, end;
};

// The sums of 16 rows from `row` on with a panel, which is there already if it is not new and has one tile.
template <int BYTES, int INPUTS, int FIRST, bool SIGNED>
static inline LEPTON_INLINE void multiply_in_tiles(const CodedRows& x, int row, InputRange inputs, CodedQuads w,
                                                   bool is_new) {
  zero_tile<FIRST>();
  zero_tile<FIRST + 1>();
  const int8_t *high = x.high + row * x.stride, *low = x.low + row * x.stride;
  for (int i = inputs.begin; i < inputs.end; i += INPUTS) {
    if (is_new || inputs.end - inputs.begin > INPUTS) load_panel<BYTES>(w, i);
    add_in_tiles<BYTES, FIRST, SIGNED>(high + i, low + i, x.stride);
  }
}

template <int FIRST>
static inline LEPTON_INLINE void store_sums(CodedTileSums& to) {
  store_tile<FIRST>(to.high, 64);
  store_tile<FIRST + 1>(to.mixed, 64);
}

// 16 rows of codes, and a panel.
struct TilePlace {
  int panel, row = 0;

  void advance(int rows) {
    row += kTileHeight;
    if (row >= rows) row = 0, ++panel;
  }
};

// For each of the panels [first, last), whose quads are at(n), and each 16 of `rows` rows, the last of which may be
// fewer: finish(place, sums). A tile that waits to be stored holds up what would overwrite it, so that products go to
// two pairs of tiles in turn: while those of one are made, the other is stored, and what was stored before is finished.
template <int BYTES, int INPUTS, bool SIGNED, class At, class Finish>
static inline LEPTON_INLINE void for_tiles(const CodedRows& x, int rows, InputRange inputs, int first, int last,
                                           const At& at, const Finish& finish) {
  CodedTileSums sums[2];
  TilePlace made{first}, finished{first};
  CodedQuads panel{};
  const int count = (last - first) * ((rows + kTileHeight - 1) / kTileHeight);
  const auto turn = [&]<int PAIR>(int i) LEPTON_INLINE {
    if (i < count) {
      const bool is_new = made.row == 0;
      if (is_new) panel = at(made.panel);
      multiply_in_tiles<BYTES, INPUTS, 2 * PAIR, SIGNED>(x, made.row, inputs, panel, is_new);
      made.advance(rows);
    }
    if (i > 0 && i <= count) store_sums<2 - 2 * PAIR>(sums[1 - PAIR]);
    if (i > 1) {
      finish(finished, sums[PAIR]);
      finished.advance(rows);
    }
  };
  for (int i = 0; i < count + 2; i += 2) {
    turn.template operator()<0>(i);
    if (i + 1 < count + 2) turn.template operator()<1>(i + 1);
  }
}

template <int BYTES, int INPUTS, bool HAS_BASES>
static void score_in_tiles(const CodedRows& x, int rows, const KeyPanels& kv, int D, const CodedScores<HAS_BASES>& to) {
  const auto keys = [&](int panel) { return CodedQuads{kv.keys[panel], kv.keys[panel] + kBlockTokens * D}; };
  const auto finish = [&](TilePlace place, const CodedTileSums& sums) {
    const VF factors = load(kv.factors + place.panel * kBlockTokens);
#pragma GCC unroll 16
    for (int r = 0; r < kTileHeight; ++r) {
      const int row = place.row + r;
      to.put(row, place.panel, 0, to_float(add_int(sums.row(r), x.offsets[row])), factors);
    }
  };
  configure_tiles<INPUTS>();
  for_tiles<BYTES, INPUTS, false>(x, rows, {0, D}, kv.begin, kv.end, keys, finish);
}

// As score_coded.
template <int BYTES, bool HAS_BASES>
static void score_coded_tiles(const CodedRows& x, int rows, const KeyPanels& kv, int D,
                              const CodedScores<HAS_BASES>& to) {
  if (D % 64 == 0) return score_in_tiles<BYTES, 64>(x, rows, kv, D, to);
  if (D % 32 == 0) return score_in_tiles<BYTES, 32>(x, rows, kv, D, to);
  return score_in_tiles<BYTES, 16>(x, rows, kv, D, to);
}

// A strip of values, of all keys, signed: [BYTES: high, low][keys in quads][16 dimensions][4].
template <int BYTES>
static CodedQuads gather_strip(const CodedSplit<BYTES>& kv, int strip, uint8_t* to) {
  for (int plane = 0; plane < BYTES; ++plane)
    for (int b = kv.begin; b < kv.blocks; ++b) {
      const uint8_t* from = kv.values[b] + plane * kv.plane_bytes() + strip * kStripBytes;
      uint8_t* out = to + (plane * kSplitBlocks + b) * kStripBytes;
      for (int i = 0; i < kStripBytes; i += 64) store_bytes(out + i, flip_signs(load_bytes(from + i)));
    }
  return {to, to + kSplitBlocks * kStripBytes};
}

// As weigh_coded. `gathered` has room for two strips of values.
template <int BYTES>
static void weigh_coded_tiles(const CodedRows& x, int rows, const CodedSplit<BYTES>& kv, uint8_t* gathered,
                              float* out) {
  const auto values = [&](int strip) {
    return gather_strip(kv, strip, gathered + strip % 2 * (BYTES * kSplitBlocks * kStripBytes));
  };
  const auto finish = [&](TilePlace place, const CodedTileSums& sums) {
    float* to = out + place.row * kv.D + place.panel * kPanelWidth;
#pragma GCC unroll 16
    for (int r = 0; r < kTileHeight; ++r) store(to + r * kv.D, to_float(sums.row(r)) * set1(x.scales[place.row + r]));
  };
  configure_tiles<kKeyTile>();
  for_tiles<BYTES, kKeyTile, true>(x, rows, {kv.first_key(), kv.end_key()}, 0, kv.D / kPanelWidth, values, finish);
}

}  // namespace lepton::LEPTON_ISA
