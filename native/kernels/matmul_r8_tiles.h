// Panels of rotated weights times many rows of rotated 8-bit activations, by tiles of 16 rows and 16 channels: the same
// integers as the sums of matmul_r8.h, scaled in the same order, so the same bits.
#pragma once

#include "matmul_r8.h"
#include LEPTON_TILES

namespace lepton::LEPTON_ISA {

constexpr int kRotatedInputs = 64;  // of a tile

// Sixteen rotated rows from a block on.
struct RotatedRows {
  const uint8_t* data;
  int64_t stride;

  LEPTON_INLINE const R8Block& row(int r) const { return *reinterpret_cast<const R8Block*>(data + r * stride); }
};

// The integer sums of a block of 128 rotated inputs, for PANELS panels: sums[panel][16 rows][16]. FIRST: the first tile
// of sums to use.
template <int PANELS, int FIRST>
static inline LEPTON_INLINE void multiply_rotated(const RotatedRows& x, const uint8_t* weights, int64_t panel_stride,
                                                  int32_t (*sums)[kTileSums]) {
  zero_tile<FIRST>();
  if constexpr (PANELS == 2) zero_tile<FIRST + 1>();
#pragma GCC unroll 2
  for (int i = 0; i < kRotation; i += kRotatedInputs) {
    load_tile<4>(x.data + i, x.stride);
    load_tile<6>(weights + i * kPanelWidth, 64);
    multiply_unsigned<FIRST, 4, 6>();
    if constexpr (PANELS == 2) {
      load_tile<7>(weights + panel_stride + i * kPanelWidth, 64);
      multiply_unsigned<FIRST + 1, 4, 7>();
    }
  }
  store_tile<FIRST>(sums[0], 64);
  if constexpr (PANELS == 2) store_tile<FIRST + 1>(sums[1], 64);
}

// out[panel][16 rows][16] += the sums of a block, whose scales are at `scales`.
template <int PANELS>
static inline LEPTON_INLINE void scale_rotated(const RotatedRows& x, const uint8_t* scales, int64_t panel_stride,
                                               const int32_t (*sums)[kTileSums], float (*out)[kTileSums]) {
  VF channel_scales[PANELS];
  for (int n = 0; n < PANELS; ++n) channel_scales[n] = load(reinterpret_cast<const float*>(scales + n * panel_stride));
  for (int r = 0; r < kTileHeight; ++r) {
    const int32_t offset = x.row(r).offset << offset_shift(128);
    const VF scale = set1(x.row(r).scale);
    for (int n = 0; n < PANELS; ++n) {
      float* to = out[n] + r * kPanelWidth;
      const VI sum = add_int(load_int(sums[n] + r * kPanelWidth), offset);
      store(to, fma(to_float(sum) * scale, channel_scales[n], load(to)));
    }
  }
}

// out[panel][16 rows][16] = PANELS panels of rotated weights times a tile of rows.
template <int PANELS>
static inline void rotated_tile_of(const uint8_t* panel, const PanelMatrix& m, RotatedRows x, float (*out)[kTileSums]) {
  constexpr int64_t header = kind_info(PanelKind::R8).scale_bytes, block_size = kRotation * kPanelWidth;
  const int64_t blocks = m.num_inputs / kRotation, panel_stride = panel_bytes(PanelKind::R8, m.num_inputs);
  alignas(64) int32_t sums[2][PANELS][kTileSums];
  for (int n = 0; n < PANELS; ++n)
    for (int i = 0; i < kTileSums; i += W) store(out[n] + i, set1(0.0f));
  RotatedRows before = x;
  const uint8_t* scales = panel;
  for (int64_t b = 0; b <= blocks; ++b, x.data += sizeof(R8Block)) {
    const uint8_t* super = panel + b / 2 * block_bytes(PanelKind::R8);
    const uint8_t* weights = super + header + b % 2 * block_size;
    if (b < blocks && b % 2) multiply_rotated<PANELS, 2>(x, weights, panel_stride, sums[1]);
    if (b < blocks && b % 2 == 0) multiply_rotated<PANELS, 0>(x, weights, panel_stride, sums[0]);
    if (b > 0) scale_rotated<PANELS>(before, scales, panel_stride, sums[(b - 1) % 2], out);
    before = x;
    scales = super + b % 2 * (header / 2);
  }
}

template <int PANELS>
static void matmul_block_tiles(const uint8_t* panel, const PanelMatrix& m, const R8Rows& x, float* out,
                               int64_t out_stride, const Epilogue& epilogue) {
  NextPanels next(panel, PANELS * panel_bytes(PanelKind::R8, m.num_inputs), x.count);
  alignas(64) float sums[PANELS][kTileSums];
  for (int row = 0, rows; row < x.count; row += rows) {
    rows = x.count - row < kTileHeight ? x.count - row : kTileHeight;
    next.fetch(rows);
    // The last tile begins before the rows that are left: what it computes again is not used.
    const int first = rows < kTileHeight ? x.count - kTileHeight : row;
    rotated_tile_of<PANELS>(panel, m, {x.data + first * x.stride, x.stride}, sums);
    for (int n = 0; n < PANELS; ++n)
      __builtin_memcpy(out + n * out_stride + row * kPanelWidth, sums[n] + (row - first) * kPanelWidth,
                       sizeof(float) * rows * kPanelWidth);
    epilogue(row, rows);
  }
}

// The integer sums of 16 rows of codes with one scale, for PANELS panels, go to the tiles from FIRST on.
template <int PANELS, int FIRST>
static inline LEPTON_INLINE void multiply_whole(const uint8_t* codes, int64_t stride, const uint8_t* weights,
                                                const PanelMatrix& m) {
  const int64_t panel_stride = panel_bytes(PanelKind::R8Row, m.num_inputs);
  zero_tile<FIRST>();
  if constexpr (PANELS == 2) zero_tile<FIRST + 1>();
  const auto add = [&]<int X>(int i) LEPTON_INLINE {
    load_tile<X>(codes + i, stride);
    load_tile<6>(weights + i * kPanelWidth, 64);
    multiply_unsigned<FIRST, X, 6>();
    if constexpr (PANELS == 2) {
      load_tile<7>(weights + panel_stride + i * kPanelWidth, 64);
      multiply_unsigned<FIRST + 1, X, 7>();
    }
  };
  for (int i = 0; i < m.num_inputs; i += kRotation) {
    add.template operator()<4>(i);
    add.template operator()<5>(i + kRotatedInputs);
  }
}

// The sums of the 16 rows from `row` on, scaled, go where they belong.
template <int PANELS>
static inline LEPTON_INLINE void scale_whole(const uint8_t* panel, const PanelMatrix& m, const R8Rows& x, int row,
                                             const int32_t (*sums)[kTileSums], float* out, int64_t out_stride) {
  const int64_t panel_stride = panel_bytes(PanelKind::R8Row, m.num_inputs);
  VF channel_scales[PANELS];
  for (int n = 0; n < PANELS; ++n) channel_scales[n] = load(reinterpret_cast<const float*>(panel + n * panel_stride));
#pragma GCC unroll 16
  for (int r = 0; r < kTileHeight; ++r) {
    const R8RowTail* tail = x.tail(row + r, m.num_inputs);
    const int32_t offset = tail->offset << offset_shift(128);
    const VF scale = set1(tail->scale);
    for (int n = 0; n < PANELS; ++n)
      store(out + n * out_stride + (row + r) * kPanelWidth,
            to_float(add_int(load_int(sums[n] + r * kPanelWidth), offset)) * scale * channel_scales[n]);
  }
}

// While the sums of a tile of rows are made, those of the one before are stored, and of the one before that scaled:
// nothing waits. The last tile begins before the rows that are left: what it computes again is what it was.
template <int PANELS>
static void matmul_whole_tiles(const uint8_t* panel, const PanelMatrix& m, const R8Rows& x, float* out,
                               int64_t out_stride, const Epilogue& epilogue) {
  NextPanels next(panel, PANELS * panel_bytes(PanelKind::R8Row, m.num_inputs), x.count);
  const uint8_t* weights = panel + kind_info(PanelKind::R8Row).scale_bytes;
  alignas(64) int32_t sums[2][PANELS][kTileSums];
  const int tiles = (x.count + kTileHeight - 1) / kTileHeight;
  const auto first = [&](int tile) { return tile + 1 < tiles ? tile * kTileHeight : x.count - kTileHeight; };
  const auto turn = [&]<int PAIR>(int tile) LEPTON_INLINE {
    if (tile < tiles) {
      next.fetch(tile + 1 < tiles ? kTileHeight : x.count - tile * kTileHeight);
      multiply_whole<PANELS, 2 * PAIR>(x.data + first(tile) * x.stride, x.stride, weights, m);
    }
    if (tile > 0 && tile <= tiles) {
      store_tile<2 - 2 * PAIR>(sums[1 - PAIR][0], 64);
      if constexpr (PANELS == 2) store_tile<3 - 2 * PAIR>(sums[1 - PAIR][1], 64);
    }
    if (tile > 1) {
      const int row = (tile - 2) * kTileHeight;
      scale_whole<PANELS>(panel, m, x, first(tile - 2), sums[PAIR], out, out_stride);
      epilogue(row, tile - 1 < tiles ? kTileHeight : x.count - row);
    }
  };
  for (int tile = 0; tile < tiles + 2; tile += 2) {
    turn.template operator()<0>(tile);
    if (tile + 1 < tiles + 2) turn.template operator()<1>(tile + 1);
  }
}

// `count` panels of `m` from `panel` on, for at least a tile of rows; out[panel][row][16], panels `out_stride` floats
// apart.
template <PanelKind KIND>
static void matmul_r8_tiled(const PanelMatrix& m, int64_t panel, int count, const R8Rows& x, float* out,
                            int64_t out_stride, const Epilogue& epilogue) {
  configure_tiles<kRotatedInputs>();
  in_tiles_of_panels(count, epilogue, [&]<int PANELS>(int n, const Epilogue& finish) {
    if constexpr (KIND == PanelKind::R8)
      matmul_block_tiles<PANELS>(m.panel(panel + n), m, x, out + n * out_stride, out_stride, finish);
    else
      matmul_whole_tiles<PANELS>(m.panel(panel + n), m, x, out + n * out_stride, out_stride, finish);
  });
  release_tiles();
}

}  // namespace lepton::LEPTON_ISA
