// Panels (16 channels each) times some rows, whatever both are made of.
#pragma once

#include "matmul_f32.h"
#include "matmul_q8.h"

namespace lepton::LEPTON_ISA {

template <PanelKind KIND>
static inline void matmul_kind(const PanelMatrix& m, int64_t panel, int count, bool is_quantized, const uint8_t* x,
                               int64_t stride, int rows, float* out, int64_t out_stride, const Epilogue& epilogue) {
  if constexpr (KIND != PanelKind::F32 && KIND != PanelKind::F16)
    if (is_quantized)
      return matmul_q8<KIND>(m.panel(panel), count, m.num_inputs, x, stride, rows, out, out_stride, epilogue);
  for (int n = 0; n < count; ++n)
    matmul_f32<KIND>(m.panel(panel + n), m.num_inputs, x, stride, rows, out + n * out_stride);
  epilogue(0, rows);
}

// 8-bit rows come to quantised panels only: the encoder sees to it.
static inline void panel_rows(const PanelMatrix& m, int64_t panel, int count, bool is_quantized, const uint8_t* x,
                              int64_t stride, int rows, float* out, int64_t out_stride, const Epilogue& epilogue) {
#define LEPTON_KIND(kind) \
  case PanelKind::kind:   \
    return matmul_kind<PanelKind::kind>(m, panel, count, is_quantized, x, stride, rows, out, out_stride, epilogue)
  switch (m.kind) {
    LEPTON_KIND(F32);
    LEPTON_KIND(F16);
    LEPTON_KIND(U4);
    LEPTON_KIND(U4M);
    LEPTON_KIND(U5);
    LEPTON_KIND(U8);
    LEPTON_KIND(U4K);
    LEPTON_KIND(U5K);
    LEPTON_KIND(U6K);
  }
#undef LEPTON_KIND
}

namespace {

// Sums of q16 rows: each is that of two q8 rows. They move up to the places of rows whose sums were used already.
struct TermSums {
  float* out;
  int64_t out_stride;
  int count;
  const Epilogue& epilogue;

  static void add(const void* task, int first_row, int num_rows) {
    const TermSums& s = *static_cast<const TermSums*>(task);
    for (int n = 0; n < s.count; ++n)
      for (int r = first_row / 2; r < (first_row + num_rows) / 2; ++r) {
        float* out = s.out + n * s.out_stride;
        for (int i = 0; i < kPanelWidth; i += W)
          store(out + r * kPanelWidth + i,
                load(out + 2 * r * kPanelWidth + i) + load(out + (2 * r + 1) * kPanelWidth + i));
      }
    s.epilogue(first_row / 2, num_rows / 2);
  }
};

}  // namespace

// out[count][rows][16] = the channels of `count` panels for each row, panels `out_stride` floats apart: at least
// rows * terms * 16. The epilogue is called for some rows after the other, each once.
static inline void panel_matmul(const PanelMatrix& m, int64_t panel, int count, Terms terms, const uint8_t* x,
                                int64_t stride, int rows, float* out, int64_t out_stride,
                                const Epilogue& epilogue = {}) {
  if (terms < 2) return panel_rows(m, panel, count, terms == 1, x, stride, rows, out, out_stride, epilogue);
  static_assert(kTileRows % 2 == 0, "both terms of a row are in one tile");
  const TermSums sums{out, out_stride, count, epilogue};
  panel_rows(m, panel, count, true, x, stride / 2, 2 * rows, out, out_stride, {TermSums::add, &sums});
}

}  // namespace lepton::LEPTON_ISA
