// One panel (16 channels) times some rows: the inner loops of every linear op.
//
// The order of additions of an output depends only on the panel kind and the inner size. q8 rows: groups of 32 inputs
// in ascending order, each an exact integer sum, then one fused multiply-add for the scale and one for the minimum. f32
// rows: inputs of a group in ascending order, then the group's sum is added to the total.
#pragma once

#include "../panels.h"

namespace lepton::LEPTON_ISA {

// Bytes of weights asked for ahead of their use: what memory delivers in its own latency. The machine's prefetchers
// stop at the end of each page of memory; this does not.
constexpr int kPrefetchBytes = 4096;

static inline void prefetch_ahead(const uint8_t* data, int64_t num_bytes) {
  for (int64_t line = 0; line < num_bytes; line += 64) __builtin_prefetch(data + line + kPrefetchBytes);
}

constexpr int kParts = kPanelWidth / W;  // vector registers of one row of 16 channels

template <PanelKind KIND>
constexpr int kHalves = KIND == PanelKind::U6K ? 2 : 1;  // scales in a group of 32 inputs

template <PanelKind KIND>
struct Scales {
  VF scale[kBlockGroups * kHalves<KIND>][kParts];
  VF min[kBlockGroups][kParts];
};

// The scales of up to eight groups of a super-block as f32.
template <PanelKind KIND>
static inline void expand_scales(const uint8_t* block, int groups, Scales<KIND>& out) {
  constexpr KindInfo info = kind_info(KIND);
  if constexpr (!info.two_level) {
    for (int g = 0; g < groups; ++g) {
      const uint16_t* halves = reinterpret_cast<const uint16_t*>(block + g * (info.scale_bytes + info.group_bytes));
      for (int p = 0; p < kParts; ++p) {
        out.scale[g][p] = load_half(halves + p * W);
        if constexpr (info.has_min) out.min[g][p] = load_half(halves + kPanelWidth + p * W);
      }
    }
  } else {
    const uint16_t* super = reinterpret_cast<const uint16_t*>(block);
    if constexpr (KIND == PanelKind::U6K) {
      const int8_t* sub = reinterpret_cast<const int8_t*>(block + 32);
      for (int g = 0; g < 2 * groups; ++g)
        for (int p = 0; p < kParts; ++p)
          out.scale[g][p] = load_half(super + p * W) * load_scales(sub + g * kPanelWidth + p * W);
    } else {
      const uint8_t* low = block + 64;
      const uint8_t* high = block + 192;
      for (int g = 0; g < groups; ++g) {
        uint8_t scale[kPanelWidth], min[kPanelWidth];
        for (int ch = 0; ch < kPanelWidth; ++ch) {
          const uint8_t l = low[g * kPanelWidth + ch];
          const uint8_t h = static_cast<uint8_t>(high[(g >> 1) * kPanelWidth + ch] >> (4 * (g & 1)));
          scale[ch] = static_cast<uint8_t>((l & 15) | ((h & 3) << 4));
          min[ch] = static_cast<uint8_t>((l >> 4) | ((h & 12) << 2));
        }
        for (int p = 0; p < kParts; ++p) {
          out.scale[g][p] = load_half(super + p * W) * load_scales(scale + p * W);
          out.min[g][p] = set1(0.0f) - load_half(super + kPanelWidth + p * W) * load_scales(min + p * W);
        }
      }
    }
  }
}

constexpr int log2_offset(int offset) {
  return offset == 8 ? 3 : offset == 16 ? 4 : offset == 32 ? 5 : offset == 128 ? 7 : 0;
}

// Adds `groups` groups, the first of which is group `first` of the rows, to acc.
template <PanelKind KIND, bool PACKED, int ROWS>
static inline __attribute__((always_inline)) void add_groups(const uint8_t* data, int64_t group_stride,
                                                             const Scales<KIND>& scales, const uint8_t* const* x,
                                                             const Q8Row& layout, int64_t first, int groups,
                                                             VF (*acc)[kParts]) {
  constexpr KindInfo info = kind_info(KIND);
  constexpr int shift = log2_offset(info.offset), halves = kHalves<KIND>;
  for (int g = 0; g < groups; ++g) {
    if constexpr (PACKED) prefetch_ahead(data + g * group_stride, group_stride);
    const int8_t* q[ROWS];
    for (int r = 0; r < ROWS; ++r) q[r] = reinterpret_cast<const int8_t*>(x[r]) + (first + g) * kGroup;
    Sums sums[halves][ROWS];
    int32_t offsets[ROWS];
#pragma GCC unroll 2
    for (int h = 0; h < halves; ++h) {
      for (int r = 0; r < ROWS; ++r)
        offsets[r] = shift == 0 ? 0
                     : halves == 2
                         ? reinterpret_cast<const int32_t*>(x[r] + layout.half_sum_offset())[2 * (first + g) + h]
                         : reinterpret_cast<const int32_t*>(x[r] + layout.sum_offset())[first + g];
      if (halves == 1)
        dot<info.bits, PACKED, ROWS, 0, kQuads>(data + g * group_stride, q, offsets, shift, sums[h]);
      else if (h == 0)
        dot<info.bits, PACKED, ROWS, 0, kQuads / 2>(data + g * group_stride, q, offsets, shift, sums[h]);
      else
        dot<info.bits, PACKED, ROWS, kQuads / 2, kQuads>(data + g * group_stride, q, offsets, shift, sums[h]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) {
      const VF scale = set1(reinterpret_cast<const float*>(x[r] + layout.scale_offset())[first + g]);
      for (int h = 0; h < halves; ++h)
        for (int p = 0; p < kParts; ++p)
          acc[r][p] = fma(sums_to_float(sums[h][r], p) * scale, scales.scale[g * halves + h][p], acc[r][p]);
      if constexpr (info.has_min) {
        const VF scaled_sum = set1(reinterpret_cast<const float*>(x[r] + layout.scaled_sum_offset())[first + g]);
        for (int p = 0; p < kParts; ++p) acc[r][p] = fma(scales.min[g][p], scaled_sum, acc[r][p]);
      }
    }
  }
}

// All groups for at most kTileRows rows: weights are unpacked in registers, sums stay there.
template <PanelKind KIND, int ROWS>
static void matmul_few(const uint8_t* panel, int32_t num_inputs, const uint8_t* x, int64_t stride, float* out) {
  constexpr KindInfo info = kind_info(KIND);
  constexpr int64_t group_stride = info.group_bytes + (info.two_level ? 0 : info.scale_bytes);
  const Q8Row layout(num_inputs);
  const uint8_t* rows[ROWS];
  VF acc[ROWS][kParts];
  for (int r = 0; r < ROWS; ++r) {
    rows[r] = x + r * stride;
    for (int p = 0; p < kParts; ++p) acc[r][p] = set1(0.0f);
  }
  Scales<KIND> scales;
  for (int64_t first = 0; first < layout.groups; first += kBlockGroups, panel += block_bytes(KIND)) {
    const int groups = static_cast<int>(layout.groups - first < kBlockGroups ? layout.groups - first : kBlockGroups);
    expand_scales<KIND>(panel, groups, scales);
    add_groups<KIND, true, ROWS>(panel + info.scale_bytes, group_stride, scales, rows, layout, first, groups, acc);
  }
  for (int r = 0; r < ROWS; ++r)
    for (int p = 0; p < kParts; ++p) store(out + r * kPanelWidth + p * W, acc[r][p]);
}

template <PanelKind KIND, int ROWS>
static inline void tile_block(const uint8_t* unpacked, const Scales<KIND>& scales, const uint8_t* x, int64_t stride,
                              const Q8Row& layout, int64_t first, int groups, float* out) {
  const uint8_t* rows[ROWS];
  VF acc[ROWS][kParts];
  for (int r = 0; r < ROWS; ++r) {
    rows[r] = x + r * stride;
    for (int p = 0; p < kParts; ++p) acc[r][p] = load(out + r * kPanelWidth + p * W);
  }
  add_groups<KIND, false, ROWS>(unpacked, kGroup * kPanelWidth, scales, rows, layout, first, groups, acc);
  for (int r = 0; r < ROWS; ++r)
    for (int p = 0; p < kParts; ++p) store(out + r * kPanelWidth + p * W, acc[r][p]);
}

// The last rows of a block that do not fill a tile.
template <PanelKind KIND, int ROWS>
static inline void tile_rest(const uint8_t* unpacked, const Scales<KIND>& scales, const uint8_t* x, int64_t stride,
                             const Q8Row& layout, int64_t first, int groups, float* out, int rows) {
  if constexpr (ROWS > 0) {
    if (rows == ROWS)
      tile_block<KIND, ROWS>(unpacked, scales, x, stride, layout, first, groups, out);
    else
      tile_rest<KIND, ROWS - 1>(unpacked, scales, x, stride, layout, first, groups, out, rows);
  }
}

// Many rows: each super-block is unpacked once into L1 and used by all rows; sums live in `out` between super-blocks.
template <PanelKind KIND>
static void matmul_many(const uint8_t* panel, int32_t num_inputs, const uint8_t* x, int64_t stride, int rows,
                        float* out) {
  constexpr KindInfo info = kind_info(KIND);
  const Q8Row layout(num_inputs);
  alignas(64) uint8_t unpacked[kBlock * kPanelWidth];
  Scales<KIND> scales;
  for (int i = 0; i < rows * kPanelWidth; i += W) store(out + i, set1(0.0f));
  for (int64_t first = 0; first < layout.groups; first += kBlockGroups, panel += block_bytes(KIND)) {
    const int groups = static_cast<int>(layout.groups - first < kBlockGroups ? layout.groups - first : kBlockGroups);
    expand_scales<KIND>(panel, groups, scales);
    for (int g = 0; g < groups; ++g) {
      prefetch_ahead(panel + group_offset(KIND, g), info.group_bytes);
      unpack_group<info.bits>(panel + group_offset(KIND, g), unpacked + g * kGroup * kPanelWidth);
    }
    int r = 0;
    for (; r + kTileRows <= rows; r += kTileRows)
      tile_block<KIND, kTileRows>(unpacked, scales, x + r * stride, stride, layout, first, groups,
                                  out + r * kPanelWidth);
    tile_rest<KIND, kTileRows - 1>(unpacked, scales, x + r * stride, stride, layout, first, groups,
                                   out + r * kPanelWidth, rows - r);
  }
}

template <PanelKind KIND, int ROWS>
static inline void matmul_few_rows(const uint8_t* panel, int32_t num_inputs, const uint8_t* x, int64_t stride, int rows,
                                   float* out) {
  if constexpr (ROWS > 0) {
    if (rows == ROWS)
      matmul_few<KIND, ROWS>(panel, num_inputs, x, stride, out);
    else
      matmul_few_rows<KIND, ROWS - 1>(panel, num_inputs, x, stride, rows, out);
  }
}

template <PanelKind KIND>
static void matmul_q8(const uint8_t* panel, int32_t num_inputs, const uint8_t* x, int64_t stride, int rows,
                      float* out) {
  if (rows <= kTileRows)
    matmul_few_rows<KIND, kTileRows>(panel, num_inputs, x, stride, rows, out);
  else
    matmul_many<KIND>(panel, num_inputs, x, stride, rows, out);
}

// A group of weights as f32, [32 inputs][16 channels]. Products of scale and integer are exact, so that one fused
// multiply-add gives the value that the file format defines.
template <PanelKind KIND>
static inline const float* unpack_float(const uint8_t* block, const Scales<KIND>& scales, int g, float* out) {
  constexpr KindInfo info = kind_info(KIND);
  if constexpr (KIND == PanelKind::F32) {
    return reinterpret_cast<const float*>(block + group_offset(KIND, g));
  } else if constexpr (KIND == PanelKind::F16) {
    const uint16_t* halves = reinterpret_cast<const uint16_t*>(block + group_offset(KIND, g));
    for (int i = 0; i < kGroup * kPanelWidth; i += W) store(out + i, load_half(halves + i));
    return out;
  } else {
    alignas(64) uint8_t unpacked[kGroup * kPanelWidth];
    unpack_group<info.bits>(block + group_offset(KIND, g), unpacked);
    for (int q = 0; q < kQuads; ++q) {
      const int s = kHalves<KIND> == 2 ? 2 * g + q / 4 : g;
      for (int p = 0; p < kParts; ++p) {
        const VF scale = scales.scale[s][p];
        const VF low = info.has_min ? scales.min[g][p] : scale * set1(-static_cast<float>(info.offset));
        for (int j = 0; j < 4; ++j)
          store(out + (4 * q + j) * kPanelWidth + p * W, fma(quad_input(unpacked + q * 64 + p * W * 4, j), scale, low));
      }
    }
    return out;
  }
}

template <int ROWS>
static inline void add_float_group(const float* weights, const float* const* x, int count, float* out) {
  VF acc[ROWS][kParts];
  for (int r = 0; r < ROWS; ++r)
    for (int p = 0; p < kParts; ++p) acc[r][p] = set1(0.0f);
  for (int i = 0; i < count; ++i) {
    VF w[kParts];
    for (int p = 0; p < kParts; ++p) w[p] = load(weights + i * kPanelWidth + p * W);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
      for (int p = 0; p < kParts; ++p) acc[r][p] = fma(w[p], set1(x[r][i]), acc[r][p]);
  }
  for (int r = 0; r < ROWS; ++r)
    for (int p = 0; p < kParts; ++p) {
      float* total = out + r * kPanelWidth + p * W;
      store(total, load(total) + acc[r][p]);
    }
}

template <int ROWS>
static inline void add_float_rest(const float* weights, const float* const* x, int count, float* out, int rows) {
  if constexpr (ROWS > 0) {
    if (rows == ROWS)
      add_float_group<ROWS>(weights, x, count, out);
    else
      add_float_rest<ROWS - 1>(weights, x, count, out, rows);
  }
}

template <PanelKind KIND>
static void matmul_f32(const uint8_t* panel, int32_t num_inputs, const uint8_t* x, int64_t stride, int rows,
                       float* out) {
  constexpr bool quantized = KIND != PanelKind::F32 && KIND != PanelKind::F16;
  const int64_t total = num_groups(num_inputs);
  alignas(64) float weights[kGroup * kPanelWidth];
  Scales<KIND> scales;  // stays unused by f32 and f16 panels, which have none
  for (int i = 0; i < rows * kPanelWidth; i += W) store(out + i, set1(0.0f));
  for (int64_t first = 0; first < total; first += kBlockGroups, panel += block_bytes(KIND)) {
    const int groups = static_cast<int>(total - first < kBlockGroups ? total - first : kBlockGroups);
    if constexpr (quantized) expand_scales<KIND>(panel, groups, scales);
    for (int g = 0; g < groups; ++g) {
      const float* w = unpack_float<KIND>(panel, scales, g, weights);
      const int64_t begin = (first + g) * kGroup;
      const int count = static_cast<int>(num_inputs - begin < kGroup ? num_inputs - begin : kGroup);
      const float* inputs[kTileRows];
      for (int r = 0; r < rows; r += kTileRows) {
        const int here = rows - r < kTileRows ? rows - r : kTileRows;
        for (int i = 0; i < here; ++i) inputs[i] = reinterpret_cast<const float*>(x + (r + i) * stride) + begin;
        add_float_rest<kTileRows>(w, inputs, count, out + r * kPanelWidth, here);
      }
    }
  }
}

static inline void panel_rows(const PanelMatrix& m, int64_t panel, bool is_quantized, const uint8_t* x, int64_t stride,
                              int rows, float* out) {
  const uint8_t* data = m.panel(panel);
  const int32_t n = m.num_inputs;
  if (is_quantized) switch (m.kind) {
      case PanelKind::U4: return matmul_q8<PanelKind::U4>(data, n, x, stride, rows, out);
      case PanelKind::U4M: return matmul_q8<PanelKind::U4M>(data, n, x, stride, rows, out);
      case PanelKind::U5: return matmul_q8<PanelKind::U5>(data, n, x, stride, rows, out);
      case PanelKind::U8: return matmul_q8<PanelKind::U8>(data, n, x, stride, rows, out);
      case PanelKind::U4K: return matmul_q8<PanelKind::U4K>(data, n, x, stride, rows, out);
      case PanelKind::U5K: return matmul_q8<PanelKind::U5K>(data, n, x, stride, rows, out);
      case PanelKind::U6K: return matmul_q8<PanelKind::U6K>(data, n, x, stride, rows, out);
      default: return;  // the encoder gives 8-bit rows to quantised panels only
    }
  switch (m.kind) {
    case PanelKind::F32: return matmul_f32<PanelKind::F32>(data, n, x, stride, rows, out);
    case PanelKind::F16: return matmul_f32<PanelKind::F16>(data, n, x, stride, rows, out);
    case PanelKind::U4: return matmul_f32<PanelKind::U4>(data, n, x, stride, rows, out);
    case PanelKind::U4M: return matmul_f32<PanelKind::U4M>(data, n, x, stride, rows, out);
    case PanelKind::U5: return matmul_f32<PanelKind::U5>(data, n, x, stride, rows, out);
    case PanelKind::U8: return matmul_f32<PanelKind::U8>(data, n, x, stride, rows, out);
    case PanelKind::U4K: return matmul_f32<PanelKind::U4K>(data, n, x, stride, rows, out);
    case PanelKind::U5K: return matmul_f32<PanelKind::U5K>(data, n, x, stride, rows, out);
    case PanelKind::U6K: return matmul_f32<PanelKind::U6K>(data, n, x, stride, rows, out);
  }
}

// out[rows][16] = the panel's channels for each row. `out` has room for rows * terms: q16 rows are two q8 rows, added.
static inline void panel_matmul(const PanelMatrix& m, int64_t panel, Terms terms, const uint8_t* x, int64_t stride,
                                int rows, float* out) {
  if (terms < 2) return panel_rows(m, panel, terms == 1, x, stride, rows, out);
  panel_rows(m, panel, true, x, stride / 2, 2 * rows, out);
  for (int r = 0; r < rows; ++r)
    for (int i = 0; i < kPanelWidth; i += W)
      store(out + r * kPanelWidth + i, load(out + 2 * r * kPanelWidth + i) + load(out + (2 * r + 1) * kPanelWidth + i));
}

}  // namespace lepton::LEPTON_ISA
