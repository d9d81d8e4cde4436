// Panels times rows of f32. The order of additions of an output: inputs of a group in ascending order, then the group's
// sum is added to the total.
#pragma once

#include "panel_scales.h"

namespace lepton::LEPTON_ISA {

// A group of weights as f32, [32 inputs][16 channels]. Products of scale and integer are exact, so that one fused
// multiply-add gives the value that the file format defines.
template <PanelKind KIND>
static inline const float* unpack_float(const uint8_t* block, const Scales<KIND>& scales, int g, float* out) {
  constexpr KindInfo info = kind_info(KIND);
  if constexpr (KIND == PanelKind::F32) {
    return reinterpret_cast<const float*>(block + group_offset(KIND, g));
  } else if constexpr (is_wide(KIND)) {
    const uint16_t* halves = reinterpret_cast<const uint16_t*>(block + group_offset(KIND, g));
    for (int i = 0; i < kGroup * kPanelWidth; i += W)
      store(out + i, KIND == PanelKind::F16 ? load_half(halves + i) : load_bfloat(halves + i));
    return out;
  } else {
    alignas(64) uint8_t unpacked[kGroup * kPanelWidth];
    unpack_group<info.bits, info.stored_bits>(block + group_offset(KIND, g), unpacked);
    for (int q = 0; q < kQuads; ++q) {
      const int s = kHalves<KIND> == 2 ? 2 * g + q / 4 : g;
      for (int p = 0; p < kParts; ++p) {
        const VF scale = scales.scale[s][p];
        VF low = scale * set1(-static_cast<float>(info.offset));
        if constexpr (info.has_min) low = info.offset ? low + scales.min[s][p] : scales.min[s][p];
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
  constexpr bool quantized = !is_wide(KIND);
  const int64_t total = num_groups(num_inputs);
  alignas(64) float weights[kGroup * kPanelWidth];
  Scales<KIND> scales;  // stays unused by wide panels, which have none
  for (int i = 0; i < rows * kPanelWidth; i += W) store(out + i, set1(0.0f));
  for (int64_t first = 0; first < total; first += kBlockGroups, panel += block_bytes(KIND)) {
    const int groups = static_cast<int>(total - first < kBlockGroups ? total - first : kBlockGroups);
    if constexpr (quantized) expand_scales<KIND>(panel, groups, scales);
    for (int g = 0; g < groups; ++g) {
      const float* w = unpack_float<KIND>(panel, scales, g, weights);
      const int64_t begin = (first + g) * kGroup;
      const int count = static_cast<int>(num_inputs - begin < kGroup ? num_inputs - begin : kGroup);
      const float* inputs[kPackedRows];
      for (int r = 0; r < rows; r += kPackedRows) {
        const int here = rows - r < kPackedRows ? rows - r : kPackedRows;
        for (int i = 0; i < here; ++i) inputs[i] = reinterpret_cast<const float*>(x + (r + i) * stride) + begin;
        add_float_rest<kPackedRows>(w, inputs, count, out + r * kPanelWidth, here);
      }
    }
  }
}

}  // namespace lepton::LEPTON_ISA
