// Panels times many rows of 8-bit activations, by tiles of 16 rows and 16 channels: the same integers as the sums of
// matmul_q8.h and matmul_r8.h, scaled in the same order, so the same bits.
//
// A tile of sums leaves its register through L1, where vectors scale it while the next tiles are multiplied.
#pragma once

#include "matmul_r8.h"
#include LEPTON_TILES

namespace lepton::LEPTON_ISA {

constexpr int kMinTileRows = 3 * kTileHeight;  // of groups with a scale each: fewer are as fast without tiles
constexpr int kTileSums = kTileHeight * kPanelWidth;
constexpr int kTileLag = 2;         // groups that are multiplied before the first is scaled
constexpr int kRotatedInputs = 64;  // of a tile of rotated rows

namespace {

// Sixteen rows of activations.
struct TileRows {
  const uint8_t* data;
  int64_t stride;

  LEPTON_INLINE const Q8Group& group(int row, int64_t index) const {
    return reinterpret_cast<const Q8Group*>(data + row * stride)[index];
  }
};

// One super-block of a panel, unpacked to signed bytes.
template <PanelKind KIND>
struct SignedBlock {
  alignas(64) uint8_t weights[kBlock * kPanelWidth];
  Scales<KIND> scales;

  inline void fill(const uint8_t* panel, int groups) {
    constexpr KindInfo info = kind_info(KIND);
    expand_scales<KIND>(panel, groups, scales);
    for (int g = 0; g < groups; ++g)
#pragma GCC unroll 8
      for (int q = 0; q < kQuads; ++q)
        store_bytes(
            weights + (g * kQuads + q) * 64,
            subtract_bytes(load_quad<info.bits, info.stored_bits>(panel + group_offset(KIND, g), q), info.offset));
  }

  const uint8_t* group(int g) const { return weights + g * kGroup * kPanelWidth; }
};

}  // namespace

template <int SUMS>
static inline LEPTON_INLINE void multiply_group(const Q8Group* x, int64_t stride, const uint8_t* weights,
                                                int32_t* sums) {
  load_tile<4 + SUMS>(x, stride);
  load_tile<6 + SUMS>(weights, 64);
  zero_tile<SUMS>();
  multiply_signed<SUMS, 4 + SUMS, 6 + SUMS>();
  store_tile<SUMS>(sums, 64);
}

template <PanelKind KIND>
static inline LEPTON_INLINE void scale_group(const TileRows& x, int64_t group, const Scales<KIND>& scales, int g,
                                             const int32_t* sums, VF* acc) {
#pragma GCC unroll 16
  for (int r = 0; r < kTileHeight; ++r) {
    const Q8Group& row = x.group(r, group);
    acc[r] = fma(to_float(load_int(sums + r * kPanelWidth)) * set1(row.scale), scales.scale[g][0], acc[r]);
    if constexpr (kind_info(KIND).has_min) acc[r] = fma(scales.min[g][0], set1(row.scaled_sum), acc[r]);
  }
}

// out[16 rows][16] += a super-block of a panel times its groups of x, the first of which is `first`.
template <PanelKind KIND>
static inline void add_tile(const SignedBlock<KIND>& block, int groups, const TileRows& x, int64_t first, float* out) {
  alignas(64) int32_t sums[kTileLag + 2][kTileSums];
  VF acc[kTileHeight];
#pragma GCC unroll 16
  for (int r = 0; r < kTileHeight; ++r) acc[r] = load(out + r * kPanelWidth);
  const Q8Group* rows = &x.group(0, first);
  for (int g = 0; g < groups + kTileLag; g += 2) {
    if (g < groups) multiply_group<0>(rows + g, x.stride, block.group(g), sums[g % (kTileLag + 2)]);
    if (g + 1 < groups) multiply_group<1>(rows + g + 1, x.stride, block.group(g + 1), sums[(g + 1) % (kTileLag + 2)]);
    for (int done = g - kTileLag; done < g - kTileLag + 2; ++done)
      if (done >= 0 && done < groups)
        scale_group<KIND>(x, first + done, block.scales, done, sums[done % (kTileLag + 2)], acc);
  }
#pragma GCC unroll 16
  for (int r = 0; r < kTileHeight; ++r) store(out + r * kPanelWidth, acc[r]);
}

// PANELS panels for all rows; each super-block is unpacked once into L1.
template <PanelKind KIND, int PANELS>
static void matmul_q8_tiles(const uint8_t* panel, int64_t panel_stride, int32_t num_inputs, const Q8Rows& x, float* out,
                            int64_t out_stride, const Epilogue& epilogue) {
  const int64_t total = num_groups(num_inputs);
  const uint8_t* next_panels = panel + PANELS * panel_stride;
  const int tiles = (x.count + kTileHeight - 1) / kTileHeight;
  SignedBlock<KIND> blocks[PANELS];
  // The last tile begins before the rows that are left: what it computes again, here, is not used.
  const int rest = x.count % kTileHeight;
  alignas(64) float last_out[PANELS][kTileSums] = {};
  for (int n = 0; n < PANELS; ++n)
    for (int i = 0; i < x.count * kPanelWidth; i += W) store(out + n * out_stride + i, set1(0.0f));
  configure_tiles<kGroup>();
  for (int64_t first = 0; first < total; first += kBlockGroups, panel += block_bytes(KIND)) {
    const int groups = groups_of_block(first, total);
    for (int n = 0; n < PANELS; ++n) blocks[n].fill(panel + n * panel_stride, groups);
    const bool is_last = first + kBlockGroups >= total;
    const uint8_t* next = is_last ? next_panels : panel + block_bytes(KIND);
    for (int t = 0; t < tiles; ++t) {
      prefetch_share(next, block_bytes(KIND), panel_stride, PANELS, t, tiles);
      const int row = t * kTileHeight, rows = t == tiles - 1 && rest ? rest : kTileHeight;
      const int begin = row + rows - kTileHeight;
      const TileRows tile{x.data + begin * x.stride, x.stride};
      for (int n = 0; n < PANELS; ++n)
        add_tile(blocks[n], groups, tile, first,
                 rows == kTileHeight ? out + n * out_stride + row * kPanelWidth : last_out[n]);
      if (!is_last) continue;
      for (int n = 0; n < (rows == kTileHeight ? 0 : PANELS); ++n)
        __builtin_memcpy(out + n * out_stride + row * kPanelWidth, last_out[n] + (row - begin) * kPanelWidth,
                         sizeof(float) * rows * kPanelWidth);
      epilogue(row, rows);
    }
  }
  release_tiles();
}

// `count` panels of `m` from `panel` on, for at least a tile of rows; out[panel][row][16], panels `out_stride` floats
// apart.
template <PanelKind KIND>
static void matmul_q8_many(const PanelMatrix& m, int64_t panel, int count, const Q8Rows& x, float* out,
                           int64_t out_stride, const Epilogue& epilogue) {
  const int64_t panel_stride = panel_bytes(KIND, m.num_inputs);
  int n = 0;
  for (; n + kTilePanels <= count; n += kTilePanels)
    matmul_q8_tiles<KIND, kTilePanels>(m.panel(panel + n), panel_stride, m.num_inputs, x, out + n * out_stride,
                                       out_stride, n + kTilePanels == count ? epilogue : Epilogue{});
  for (; n < count; ++n)
    matmul_q8_tiles<KIND, 1>(m.panel(panel + n), panel_stride, m.num_inputs, x, out + n * out_stride, out_stride,
                             n + 1 == count ? epilogue : Epilogue{});
}

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
static void matmul_r8_tiles(const uint8_t* panel, const PanelMatrix& m, const R8Rows& x, float* out, int64_t out_stride,
                            const Epilogue& epilogue) {
  const int64_t size = PANELS * panel_bytes(PanelKind::R8, m.num_inputs), share = size / x.count;
  const uint8_t* next = panel + size;
  alignas(64) float sums[PANELS][kTileSums];
  configure_tiles<kRotatedInputs>();
  for (int row = 0, rows; row < x.count; row += rows) {
    rows = x.count - row < kTileHeight ? x.count - row : kTileHeight;
    for (int64_t line = 0; line < rows * share; line += 64) __builtin_prefetch(next + line);
    next += rows * share;
    // The last tile begins before the rows that are left: what it computes again is not used.
    const int first = rows < kTileHeight ? x.count - kTileHeight : row;
    rotated_tile_of<PANELS>(panel, m, {x.data + first * x.stride, x.stride}, sums);
    for (int n = 0; n < PANELS; ++n)
      __builtin_memcpy(out + n * out_stride + row * kPanelWidth, sums[n] + (row - first) * kPanelWidth,
                       sizeof(float) * rows * kPanelWidth);
    epilogue(row, rows);
  }
  release_tiles();
}

// The same of rotated panels and rows.
static void matmul_r8_many(const PanelMatrix& m, int64_t panel, int count, const R8Rows& x, float* out,
                           int64_t out_stride, const Epilogue& epilogue) {
  int n = 0;
  for (; n + kTilePanels <= count; n += kTilePanels)
    matmul_r8_tiles<kTilePanels>(m.panel(panel + n), m, x, out + n * out_stride, out_stride,
                                 n + kTilePanels == count ? epilogue : Epilogue{});
  for (; n < count; ++n)
    matmul_r8_tiles<1>(m.panel(panel + n), m, x, out + n * out_stride, out_stride,
                       n + 1 == count ? epilogue : Epilogue{});
}

}  // namespace lepton::LEPTON_ISA
