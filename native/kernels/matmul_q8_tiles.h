// Panels times many rows of 8-bit activations, by tiles of 16 rows and 16 channels: the same integers as the sums of
// matmul_q8.h, scaled in the same order, so the same bits.
//
// A tile of sums leaves its register through L1, where vectors scale it while the next tiles are multiplied.
#pragma once

#include "matmul_q8.h"
#include LEPTON_TILES

namespace lepton::LEPTON_ISA {

constexpr int kMinTileRows = 3 * kTileHeight;  // of groups with a scale each: fewer are as fast without tiles
static_assert(kTileHeight == kRowsOfTile);
constexpr int kTileTurns = 4;  // tiles of sums
constexpr int kTileLag = 3;    // groups that are multiplied before the first is scaled

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
static inline LEPTON_INLINE void multiply_group(const Q8Group* x, int64_t stride, const uint8_t* weights) {
  constexpr int pair = SUMS % 2;
  load_tile<4 + pair>(x, stride);
  load_tile<6 + pair>(weights, 64);
  zero_tile<SUMS>();
  multiply_signed<SUMS, 4 + pair, 6 + pair>();
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

// out[16 rows][16] += a super-block of a panel times its groups of x, the first of which is `first`. What is multiplied
// is stored while the next group is, and scaled later still: a tile that waits to be stored holds up what follows it.
template <PanelKind KIND>
static inline void add_tile(const SignedBlock<KIND>& block, int groups, const TileRows& x, int64_t first, float* out) {
  alignas(64) int32_t sums[kTileTurns][kTileSums];
  VF acc[kTileHeight];
#pragma GCC unroll 16
  for (int r = 0; r < kTileHeight; ++r) acc[r] = load(out + r * kPanelWidth);
  const Q8Group* rows = &x.group(0, first);
  const auto turn = [&]<int TURN>(int g) LEPTON_INLINE {
    constexpr int before = (TURN + kTileTurns - 1) % kTileTurns, done = (TURN + kTileTurns - kTileLag) % kTileTurns;
    if (g < groups) multiply_group<TURN>(rows + g, x.stride, block.group(g));
    if (g >= 1 && g <= groups) store_tile<before>(sums[before], 64);
    if (g >= kTileLag && g < groups + kTileLag)
      scale_group<KIND>(x, first + g - kTileLag, block.scales, g - kTileLag, sums[done], acc);
  };
  for (int g = 0; g < groups + kTileLag; g += kTileTurns) {
    turn.template operator()<0>(g);
    turn.template operator()<1>(g + 1);
    turn.template operator()<2>(g + 2);
    turn.template operator()<3>(g + 3);
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
static void matmul_q8_tiled(const PanelMatrix& m, int64_t panel, int count, const Q8Rows& x, float* out,
                            int64_t out_stride, const Epilogue& epilogue) {
  in_tiles_of_panels(count, epilogue, [&]<int PANELS>(int n, const Epilogue& finish) {
    matmul_q8_tiles<KIND, PANELS>(m.panel(panel + n), panel_bytes(KIND, m.num_inputs), m.num_inputs, x,
                                  out + n * out_stride, out_stride, finish);
  });
}

}  // namespace lepton::LEPTON_ISA
