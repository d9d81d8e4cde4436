// Panels of rotated weights times rows of rotated 8-bit activations.
//
// R8: both have one scale for each 128 inputs. The order of additions of an output: blocks of 128 inputs in ascending
// order, an exact integer sum for each, then one fused multiply-add for the scale. R8Row: both have one scale, and an
// output is one exact integer sum. Weights are read where they lie: a code is a byte already.
#pragma once

#include "matmul_q8.h"

namespace lepton::LEPTON_ISA {

// Rows of rotated activations: row r starts at data + r * stride.
struct R8Rows {
  const uint8_t* data;
  int64_t stride;
  int count;

  LEPTON_INLINE const R8Block* block(int row, int64_t index) const {
    return reinterpret_cast<const R8Block*>(data + row * stride) + index;
  }
  // Those of R8Row.
  LEPTON_INLINE const int8_t* codes(int row) const { return reinterpret_cast<const int8_t*>(data + row * stride); }
  LEPTON_INLINE const R8RowTail* tail(int row, int64_t num_inputs) const {
    return reinterpret_cast<const R8RowTail*>(data + row * stride + num_inputs);
  }
};

// out[panel][row][16] = the channels of PANELS panels for ROWS rows from `row` on. `ahead`: 0 for what is read more
// than once.
template <int ROWS, int PANELS>
static inline void rotated_blocks(const uint8_t* panel, const PanelMatrix& m, const R8Rows& x, int row, int64_t ahead,
                                  float* out, int64_t out_stride) {
  constexpr int64_t header = kind_info(PanelKind::R8).scale_bytes, block_size = kRotation * kPanelWidth;
  const int64_t blocks = m.num_inputs / kRotation, panel_stride = panel_bytes(PanelKind::R8, m.num_inputs);
  VF acc[ROWS][PANELS][kParts];
  for (int r = 0; r < ROWS; ++r)
    for (int n = 0; n < PANELS; ++n)
      for (int p = 0; p < kParts; ++p) acc[r][n][p] = set1(0.0f);
  for (int64_t b = 0; b < blocks; ++b) {
    const uint8_t* scales = panel + b / 2 * block_bytes(PanelKind::R8) + b % 2 * (header / 2);
    const uint8_t* weights = panel + b / 2 * block_bytes(PanelKind::R8) + header + b % 2 * block_size;
    if (ahead) prefetch_ahead(weights, block_size, ahead);
    const R8Block* rows[ROWS];
    const int8_t* q[ROWS];
    int32_t offsets[ROWS];
    for (int r = 0; r < ROWS; ++r) {
      rows[r] = x.block(row + r, b);
      offsets[r] = rows[r]->offset;
    }
    Sums sums[ROWS * PANELS];
#pragma GCC unroll 4
    for (int g = 0; g < kRotationGroups; ++g) {
      const uint8_t* group = weights + g * (block_size / kRotationGroups);
      for (int r = 0; r < ROWS; ++r) q[r] = rows[r]->q + g * kGroup;
      if (g == 0)
        dot<8, 8, 1, ROWS, PANELS, 0, kQuads>(group, panel_stride, q, 0, offsets, offset_shift(128), sums);
      else
        dot<8, 8, 1, ROWS, PANELS, 0, kQuads, true>(group, panel_stride, q, 0, nullptr, -1, sums);
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) {
      const VF scale = set1(rows[r]->scale);
      for (int n = 0; n < PANELS; ++n) {
        const float* channel_scales = reinterpret_cast<const float*>(scales + n * panel_stride);
        for (int p = 0; p < kParts; ++p)
          acc[r][n][p] =
              fma(sums_to_float(sums[r * PANELS + n], p) * scale, load(channel_scales + p * W), acc[r][n][p]);
      }
    }
  }
  for (int r = 0; r < ROWS; ++r)
    for (int n = 0; n < PANELS; ++n)
      for (int p = 0; p < kParts; ++p) store(out + n * out_stride + (row + r) * kPanelWidth + p * W, acc[r][n][p]);
}

// The same with one scale for each row and each channel.
template <int ROWS, int PANELS>
static inline void rotated_whole(const uint8_t* panel, const PanelMatrix& m, const R8Rows& x, int row, int64_t ahead,
                                 float* out, int64_t out_stride) {
  constexpr KindInfo info = kind_info(PanelKind::R8Row);
  const int64_t panel_stride = panel_bytes(PanelKind::R8Row, m.num_inputs);
  const uint8_t* group = panel + info.scale_bytes;
  const int8_t* q[ROWS];
  int32_t offsets[ROWS];
  for (int r = 0; r < ROWS; ++r) {
    q[r] = x.codes(row + r);
    offsets[r] = x.tail(row + r, m.num_inputs)->offset;
  }
  Sums sums[ROWS * PANELS];
  if (ahead) prefetch_ahead(group, info.group_bytes, ahead);
  dot<8, 8, 1, ROWS, PANELS, 0, kQuads>(group, panel_stride, q, 0, offsets, offset_shift(128), sums);
  for (int64_t g = 1; g < num_groups(m.num_inputs); ++g) {
    group += info.group_bytes;
    if (ahead) prefetch_ahead(group, info.group_bytes, ahead);
    for (int r = 0; r < ROWS; ++r) q[r] += kGroup;
    dot<8, 8, 1, ROWS, PANELS, 0, kQuads, true>(group, panel_stride, q, 0, nullptr, -1, sums);
  }
  for (int r = 0; r < ROWS; ++r) {
    const VF scale = set1(x.tail(row + r, m.num_inputs)->scale);
    for (int n = 0; n < PANELS; ++n) {
      const float* channel_scales = reinterpret_cast<const float*>(panel + n * panel_stride);
      for (int p = 0; p < kParts; ++p)
        store(out + n * out_stride + (row + r) * kPanelWidth + p * W,
              sums_to_float(sums[r * PANELS + n], p) * scale * load(channel_scales + p * W));
    }
  }
}

template <PanelKind KIND, int ROWS, int PANELS>
static inline void rotated_tile(const uint8_t* panel, const PanelMatrix& m, const R8Rows& x, int row, int64_t ahead,
                                float* out, int64_t out_stride) {
  if constexpr (KIND == PanelKind::R8)
    rotated_blocks<ROWS, PANELS>(panel, m, x, row, ahead, out, out_stride);
  else
    rotated_whole<ROWS, PANELS>(panel, m, x, row, ahead, out, out_stride);
}

// The `rows` rows from `row` on, at most ROWS.
template <PanelKind KIND, int ROWS, int PANELS>
static inline void rotated_rows(const uint8_t* panel, const PanelMatrix& m, const R8Rows& x, int row, int rows,
                                int64_t ahead, float* out, int64_t out_stride) {
  if constexpr (ROWS > 0) {
    if (rows == ROWS)
      rotated_tile<KIND, ROWS, PANELS>(panel, m, x, row, ahead, out, out_stride);
    else
      rotated_rows<KIND, ROWS - 1, PANELS>(panel, m, x, row, rows, ahead, out, out_stride);
  }
}

// For each tile of rows in turn: asks memory for its share of the panels that follow those at `panel`.
struct NextPanels {
  const uint8_t* at;
  int64_t share;  // of a row

  NextPanels(const uint8_t* panel, int64_t size, int rows) : at(panel + size), share(size / rows) {}

  LEPTON_INLINE void fetch(int rows) {
    for (int64_t line = 0; line < rows * share; line += 64) __builtin_prefetch(at + line);
    at += rows * share;
  }
};

// PANELS panels for all rows.
template <PanelKind KIND, int PANELS>
static void matmul_rotated(const uint8_t* panel, const PanelMatrix& m, const R8Rows& x, float* out, int64_t out_stride,
                           const Epilogue& epilogue) {
  NextPanels next(panel, PANELS * panel_bytes(KIND, m.num_inputs), x.count);
  for (int row = 0, rows; row < x.count; row += rows) {
    // Two tiles alike are faster than a full one and a rest.
    const int left = x.count - row;
    rows = left >= 2 * kRotatedRows || left == kRotatedRows ? kRotatedRows
           : left > kRotatedRows                            ? (left + 1) / 2
                                                            : left;
    next.fetch(rows);
    rotated_rows<KIND, kRotatedRows, PANELS>(panel, m, x, row, rows, 0, out, out_stride);
    epilogue(row, rows);
  }
}

// `count` panels of `m` from `panel` on; out[panel][row][16], panels `out_stride` floats apart.
template <PanelKind KIND>
static void matmul_r8(const Tuning& tuning, const PanelMatrix& m, int64_t panel, int count, const R8Rows& x, float* out,
                      int64_t out_stride, const Epilogue& epilogue) {
  if (x.count <= kPackedRows) {
    for (int n = 0; n < count; ++n)
      rotated_rows<KIND, kPackedRows, 1>(m.panel(panel + n), m, x, 0, x.count, tuning.prefetch_bytes,
                                         out + n * out_stride, out_stride);
    return epilogue(0, x.count);
  }
  in_tiles_of_panels(count, epilogue, [&]<int PANELS>(int n, const Epilogue& finish) {
    matmul_rotated<KIND, PANELS>(m.panel(panel + n), m, x, out + n * out_stride, out_stride, finish);
  });
}

}  // namespace lepton::LEPTON_ISA
