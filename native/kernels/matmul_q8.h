// Panels times rows of 8-bit activations.
//
// At most kPackedRows rows unpack the weights of one panel in registers. More rows share one unpacking into L1, and are
// taken in tiles of kTileRows rows by kTilePanels panels: as many sums as registers hold, so that each broadcast of
// activations serves several panels, and each load of weights several rows.
//
// TERMS: how many 8-bit rows make one row of x. The integer that two of them make is multiplied exactly.
//
// The order of additions of an output depends only on the panel kind and the inner size: groups of 32 inputs in
// ascending order (16 in kinds with a scale for each), an exact integer sum for each, then one fused multiply-add for
// the scale and one for the minimum.
#pragma once

#include "panel_scales.h"

namespace lepton::LEPTON_ISA {

// Asks for weights `ahead` bytes before their use: by what memory delivers in its own latency. The machine's
// prefetchers stop at the end of each page of memory; this does not. Into all caches: those that a hint past them leads
// to may hold too few lines for the way from memory (docs/performance.md).
static inline void prefetch_ahead(const uint8_t* data, int64_t num_bytes, int64_t ahead) {
  for (int64_t line = 0; line < num_bytes; line += 64) __builtin_prefetch(data + ahead + line);
}

// Offsets of weights are 4, or multiples of 8 by a power of two: its exponent; -1 for no offset.
constexpr int offset_shift(int offset) {
  return offset == 4 || offset == 8 ? 0 : offset == 16 ? 1 : offset == 32 ? 2 : offset == 128 ? 4 : -1;
}

// What an offset of 8 adds to the sums over half `h` of a group, of `halves` in all: a multiple of 8.
static inline int32_t group_offset_of(const Q8Group& group, int h, int halves) {
  return halves == 1 ? group.offset : h == 0 ? group.first_half : group.offset - group.first_half;
}

// The scaled sum over half `h` of a group, of `halves` in all: what a minimum is multiplied by.
static inline float scaled_sum_of(const Q8Group& group, int h, int halves) {
  if (halves == 1) return group.scaled_sum;
  return group.scale * static_cast<float>(group_offset_of(group, h, halves) / -8);
}

// Adds `groups` groups of weights times those of the rows x to acc[row][panel]. Panels lie `panel_stride` bytes apart,
// the second term of a row `term_stride` bytes after the first. `ahead` is for packed weights.
template <PanelKind KIND, bool PACKED, int TERMS, int ROWS, int PANELS>
static inline __attribute__((always_inline)) void add_groups(const uint8_t* data, int64_t group_stride,
                                                             int64_t panel_stride, const Scales<KIND>* scales,
                                                             const Q8Group* const* x, int64_t term_stride, int groups,
                                                             int64_t ahead, VF (*acc)[PANELS][kParts]) {
  constexpr KindInfo info = kind_info(KIND);
  constexpr int shift = offset_shift(info.offset), halves = kHalves<KIND>;
  static_assert(shift >= 0 || info.offset == 0, "offset_shift has no such offset, and would leave it out");
  constexpr int stored = PACKED ? info.stored_bits : 8;
  constexpr int middle = halves == 2 ? kQuads / 2 : kQuads;
  for (int g = 0; g < groups; ++g) {
    const uint8_t* weights = data + g * group_stride;
    if constexpr (PACKED) prefetch_ahead(weights, group_stride, ahead);
    const int8_t* q[ROWS];
    const Q8Group* last[ROWS];  // the term that has the sums of all
    for (int r = 0; r < ROWS; ++r) {
      q[r] = x[r][g].q;
      last[r] =
          reinterpret_cast<const Q8Group*>(reinterpret_cast<const uint8_t*>(x[r] + g) + (TERMS - 1) * term_stride);
    }
    Sums sums[halves][ROWS * PANELS];
    int32_t offsets[ROWS];
#pragma GCC unroll 2
    for (int h = 0; h < halves; ++h) {
      for (int r = 0; r < ROWS; ++r)
        offsets[r] = shift < 0 ? 0 : group_offset_of(*last[r], h, halves) / (info.offset == 4 ? 2 : 1);
      if (h == 0)
        dot<info.bits, stored, TERMS, ROWS, PANELS, 0, middle>(weights, panel_stride, q, term_stride, offsets, shift,
                                                               sums[h]);
      else
        dot<info.bits, stored, TERMS, ROWS, PANELS, middle, kQuads>(weights, panel_stride, q, term_stride, offsets,
                                                                    shift, sums[h]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) {
      const VF scale = set1(last[r]->scale);
#pragma GCC unroll 2
      for (int n = 0; n < PANELS; ++n) {
        for (int h = 0; h < halves; ++h) {
          const int s = g * halves + h;
          for (int p = 0; p < kParts; ++p)
            acc[r][n][p] = fma(sums_to_float(sums[h][r * PANELS + n], p) * scale, scales[n].scale[s][p], acc[r][n][p]);
          if constexpr (info.has_min) {
            const VF scaled_sum = set1(scaled_sum_of(*last[r], h, halves));
            for (int p = 0; p < kParts; ++p) acc[r][n][p] = fma(scales[n].min[s][p], scaled_sum, acc[r][n][p]);
          }
        }
      }
    }
  }
}

// Rows of 8-bit activations: row r starts at data + r * stride, its second term `term_stride` bytes after that.
struct Q8Rows {
  const uint8_t* data;
  int64_t stride, term_stride;
  int count;

  LEPTON_INLINE const Q8Group* group(int row, int64_t index) const {
    return reinterpret_cast<const Q8Group*>(data + row * stride) + index;
  }
};

// All groups for at most kPackedRows rows: weights are unpacked in registers, sums stay there.
template <PanelKind KIND, int TERMS, int ROWS>
static void matmul_few(const uint8_t* panel, const PanelMatrix& m, const Q8Rows& x, int64_t ahead, float* out) {
  constexpr KindInfo info = kind_info(KIND);
  constexpr int64_t group_stride = info.group_bytes + (info.has_header ? 0 : info.scale_bytes);
  const int64_t total = num_groups(m.num_inputs);
  VF acc[ROWS][1][kParts];
  for (int r = 0; r < ROWS; ++r)
    for (int p = 0; p < kParts; ++p) acc[r][0][p] = set1(0.0f);
  Scales<KIND> scales;
  for (int64_t first = 0; first < total; first += kBlockGroups, panel += block_bytes(KIND)) {
    const int groups = groups_of_block(first, total);
    const Q8Group* rows[ROWS];
    for (int r = 0; r < ROWS; ++r) rows[r] = x.group(r, first);
    expand_scales<KIND>(panel, groups, scales);
    add_groups<KIND, true, TERMS, ROWS, 1>(panel + info.scale_bytes, group_stride, 0, &scales, rows, x.term_stride,
                                           groups, ahead, acc);
  }
  for (int r = 0; r < ROWS; ++r)
    for (int p = 0; p < kParts; ++p) store(out + r * kPanelWidth + p * W, acc[r][0][p]);
}

template <PanelKind KIND, int TERMS, int ROWS>
static inline void matmul_few_rows(const uint8_t* panel, const PanelMatrix& m, const Q8Rows& x, int64_t ahead,
                                   float* out) {
  if constexpr (ROWS > 0) {
    if (x.count == ROWS)
      matmul_few<KIND, TERMS, ROWS>(panel, m, x, ahead, out);
    else
      matmul_few_rows<KIND, TERMS, ROWS - 1>(panel, m, x, ahead, out);
  }
}

namespace {  // members of a class would be symbols that other objects could share

// One super-block of PANELS panels, unpacked.
template <PanelKind KIND, int PANELS>
struct UnpackedBlock {
  alignas(64) uint8_t weights[PANELS][kBlock * kPanelWidth];
  Scales<KIND> scales[PANELS];
  int groups;

  inline void fill(const uint8_t* panel, int64_t panel_stride) {
    constexpr KindInfo info = kind_info(KIND);
    for (int n = 0; n < PANELS; ++n, panel += panel_stride) {
      expand_scales<KIND>(panel, groups, scales[n]);
      for (int g = 0; g < groups; ++g)
        unpack_group<info.bits, info.stored_bits>(panel + group_offset(KIND, g), weights[n] + g * kGroup * kPanelWidth);
    }
  }

  // out[panel][row][16] += this block, which begins at group `first`, times ROWS rows from row `row` on; panels
  // `out_stride` floats apart.
  template <int TERMS, int ROWS>
  inline void add(const Q8Rows& x, int row, int64_t first, float* out, int64_t out_stride) const {
    const Q8Group* rows[ROWS];
    VF acc[ROWS][PANELS][kParts];
    for (int r = 0; r < ROWS; ++r) {
      rows[r] = x.group(row + r, first);
      for (int n = 0; n < PANELS; ++n)
        for (int p = 0; p < kParts; ++p) acc[r][n][p] = load(out + n * out_stride + (row + r) * kPanelWidth + p * W);
    }
    add_groups<KIND, false, TERMS, ROWS, PANELS>(weights[0], kGroup * kPanelWidth, sizeof weights[0], scales, rows,
                                                 x.term_stride, groups, 0, acc);
    for (int r = 0; r < ROWS; ++r)
      for (int n = 0; n < PANELS; ++n)
        for (int p = 0; p < kParts; ++p) store(out + n * out_stride + (row + r) * kPanelWidth + p * W, acc[r][n][p]);
  }

  // The rows from `row` on, at most ROWS.
  template <int TERMS, int ROWS>
  inline void add_rows(const Q8Rows& x, int row, int64_t first, float* out, int64_t out_stride) const {
    if constexpr (ROWS > 0) {
      if (x.count - row >= ROWS)
        add<TERMS, ROWS>(x, row, first, out, out_stride);
      else
        add_rows<TERMS, ROWS - 1>(x, row, first, out, out_stride);
    }
  }
};

}  // namespace

// Asks for the `part`-th of `parts` shares of a super-block in each of some panels.
static inline void prefetch_share(const uint8_t* block, int64_t block_size, int64_t panel_stride, int panels, int part,
                                  int parts) {
  const int64_t lines = (block_size + 63) / 64;
  for (int n = 0; n < panels; ++n, block += panel_stride)
    for (int64_t line = lines * part / parts; line < lines * (part + 1) / parts; ++line)
      __builtin_prefetch(block + line * 64);
}

namespace {

// What becomes of sums as soon as those of some rows are complete: they are in L1 still, and what is written of them
// goes to memory while the next rows are computed.
struct Epilogue {
  void (*finish)(const void* task, int first_row, int num_rows) = nullptr;
  const void* task = nullptr;

  LEPTON_INLINE void operator()(int first_row, int num_rows) const {
    if (finish) finish(task, first_row, num_rows);
  }
};

}  // namespace

// Calls call.operator()<PANELS>(panel, epilogue) for `count` panels, as many at a time as a tile holds. Rows are
// complete when the last panels are, which alone have the epilogue.
template <class Call>
static inline LEPTON_INLINE void in_tiles_of_panels(int count, const Epilogue& epilogue, const Call& call) {
  int n = 0;
  for (; n + kTilePanels <= count; n += kTilePanels)
    call.template operator()<kTilePanels>(n, n + kTilePanels == count ? epilogue : Epilogue{});
  for (; n < count; ++n) call.template operator()<1>(n, n + 1 == count ? epilogue : Epilogue{});
}

// Many rows: each super-block is unpacked once into L1 and used by all rows; sums live in `out` between super-blocks.
// Each tile of rows asks memory for its share of the next super-block, so that arithmetic hides the way there.
template <PanelKind KIND, int TERMS, int PANELS>
static void matmul_many(const uint8_t* panel, int64_t panel_stride, int32_t num_inputs, const Q8Rows& x, float* out,
                        int64_t out_stride, const Epilogue& epilogue) {
  const int64_t total = num_groups(num_inputs);
  const uint8_t* next_panels = panel + PANELS * panel_stride;
  const int tiles = (x.count + kTileRows - 1) / kTileRows;
  UnpackedBlock<KIND, PANELS> block;
  for (int n = 0; n < PANELS; ++n)
    for (int i = 0; i < x.count * kPanelWidth; i += W) store(out + n * out_stride + i, set1(0.0f));
  for (int64_t first = 0; first < total; first += kBlockGroups, panel += block_bytes(KIND)) {
    block.groups = groups_of_block(first, total);
    block.fill(panel, panel_stride);
    const bool is_last = first + kBlockGroups >= total;
    const uint8_t* next = is_last ? next_panels : panel + block_bytes(KIND);
    for (int t = 0; t < tiles; ++t) {
      prefetch_share(next, block_bytes(KIND), panel_stride, PANELS, t, tiles);
      const int row = t * kTileRows;
      block.template add_rows<TERMS, kTileRows>(x, row, first, out, out_stride);
      if (is_last) epilogue(row, x.count - row < kTileRows ? x.count - row : kTileRows);
    }
  }
}

// `count` panels of `m` from `panel` on; out[panel][row][16], panels `out_stride` floats apart.
template <PanelKind KIND, int TERMS>
static void matmul_q8(const Tuning& tuning, const PanelMatrix& m, int64_t panel, int count, const Q8Rows& x, float* out,
                      int64_t out_stride, const Epilogue& epilogue) {
  if (x.count <= kPackedRows) {
    for (int n = 0; n < count; ++n)
      matmul_few_rows<KIND, TERMS, kPackedRows>(m.panel(panel + n), m, x, tuning.prefetch_bytes, out + n * out_stride);
    return epilogue(0, x.count);
  }
  in_tiles_of_panels(count, epilogue, [&]<int PANELS>(int n, const Epilogue& finish) {
    matmul_many<KIND, TERMS, PANELS>(m.panel(panel + n), panel_bytes(KIND, m.num_inputs), m.num_inputs, x,
                                     out + n * out_stride, out_stride, finish);
  });
}

}  // namespace lepton::LEPTON_ISA
