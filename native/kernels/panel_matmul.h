// Panels (16 channels each) times some rows, whatever both are made of.
#pragma once

#include "matmul_f32.h"
#include "matmul_q8.h"
#include "matmul_r8.h"
#ifdef LEPTON_TILES
#include "matmul_q8_tiles.h"
#include "matmul_r8_tiles.h"
#endif

namespace lepton::LEPTON_ISA {

template <PanelKind KIND>
static inline void matmul_kind(const Tuning& tuning, const PanelMatrix& m, int64_t panel, int count, Terms terms,
                               const uint8_t* x, int64_t stride, int rows, float* out, int64_t out_stride,
                               const Epilogue& epilogue) {
  if constexpr (!is_wide(KIND)) {
    const Q8Rows q8{x, stride, q8_row_bytes(m.num_inputs), rows};
#ifdef LEPTON_TILES
    if constexpr (kHalves<KIND> == 1)
      if (terms == 1 && rows >= tuning.min_tile_rows)
        return matmul_q8_tiled<KIND>(m, panel, count, q8, out, out_stride, epilogue);
#endif
    if (terms == 1) return matmul_q8<KIND, 1>(tuning, m, panel, count, q8, out, out_stride, epilogue);
    if (terms == 2) return matmul_q8<KIND, 2>(tuning, m, panel, count, q8, out, out_stride, epilogue);
  }
  for (int n = 0; n < count; ++n)
    matmul_f32<KIND>(m.panel(panel + n), m.num_inputs, x, stride, rows, out + n * out_stride);
  epilogue(0, rows);
}

// out[count][rows][16] = the channels of `count` panels for each row, panels `out_stride` floats apart. The epilogue is
// called for some rows after the other, each once. 8-bit rows come to quantised panels only,
// and rotated ones to rotated panels: the encoder sees to it.
static inline void panel_matmul(const Tuning& tuning, const PanelMatrix& m, int64_t panel, int count, Terms terms,
                                const uint8_t* x, int64_t stride, int rows, float* out, int64_t out_stride,
                                const Epilogue& epilogue = {}) {
#ifdef LEPTON_TILES
  if (m.kind == PanelKind::R8 && rows >= kTileHeight)
    return matmul_r8_tiled<PanelKind::R8>(m, panel, count, {x, stride, rows}, out, out_stride, epilogue);
  if (m.kind == PanelKind::R8Row && rows >= kTileHeight)
    return matmul_r8_tiled<PanelKind::R8Row>(m, panel, count, {x, stride, rows}, out, out_stride, epilogue);
#endif
  const R8Rows rotated{x, stride, rows};
  if (m.kind == PanelKind::R8)
    return matmul_r8<PanelKind::R8>(tuning, m, panel, count, rotated, out, out_stride, epilogue);
  if (m.kind == PanelKind::R8Row)
    return matmul_r8<PanelKind::R8Row>(tuning, m, panel, count, rotated, out, out_stride, epilogue);
#define LEPTON_KIND(kind) \
  case PanelKind::kind:   \
    return matmul_kind<PanelKind::kind>(tuning, m, panel, count, terms, x, stride, rows, out, out_stride, epilogue);
  switch (m.kind) {
    LEPTON_VALUE_PANEL_KINDS(LEPTON_KIND)
    case PanelKind::R8:
    case PanelKind::R8Row: break;
  }
#undef LEPTON_KIND
}

}  // namespace lepton::LEPTON_ISA
