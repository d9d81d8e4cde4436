// Attention over a cache of bf16 by tiles of AMX: queries and weights are rounded to bf16, sums are f32. Rows fill up
// tiles of 16, however few they are, so that a row has the same bits among any.

namespace lepton::LEPTON_ISA {

constexpr int kPairInputs = 32;                          // of a tile of queries and of keys
constexpr int kPairTiles = 4;                            // of sums, made side by side
constexpr int kStripPairs = kBlockTokens * kPanelWidth;  // values of a block in 16 dimensions

// Tiles 4 and 6 have 32 dimensions of queries and keys. 5 and 7 have half as many, for the rest, and what a block has
// of weights and values: 16 keys.
static constexpr TileLayout pair_layout() {
  TileLayout layout(64);
  layout.row_bytes[5] = 2 * kBlockTokens;
  layout.rows[7] = kBlockTokens / 2;
  return layout;
}
static constexpr TileLayout kPairLayout = pair_layout();

static inline uint16_t* paired_queries(const AttentionScratch& s) {
  return reinterpret_cast<uint16_t*>(s.coded_queries.high);
}
static inline uint16_t* paired_weights(const AttentionScratch& s) {
  return reinterpret_cast<uint16_t*>(s.weights.high);
}

// Queries, scaled as logits are, and zeros to whole tiles.
static void pair_queries(const AttentionOp& op, const QueryTile& tile, const AttentionScratch& s) {
  const int used = tile.rows * op.head_dim,
            all = (tile.rows + kTileHeight - 1) / kTileHeight * kTileHeight * op.head_dim;
  uint16_t* to = paired_queries(s);
  for (int i = 0; i < used; i += W) store_bf16(to + i, load(s.queries + i) * set1(op.scale));
  __builtin_memset(to + used, 0, sizeof *to * (all - used));
}

// The scores of 16 rows for COUNT blocks of keys.
template <int COUNT>
static inline void score_pairs(const uint16_t* queries, int D, const uint16_t* const* keys, float* scores) {
  for_constants<COUNT>([&]<int N>() LEPTON_INLINE { zero_tile<N>(); });
  const auto add = [&]<int X, int KEYS>(int d) LEPTON_INLINE {
    load_tile<X>(queries + d, 2 * D);
    for_constants<COUNT>([&]<int N>() LEPTON_INLINE {
      load_tile<KEYS>(keys[N] + d * kBlockTokens, 64);
      multiply_bf16<N, X, KEYS>();
    });
  };
  for (int d = 0; d + kPairInputs <= D; d += kPairInputs) add.template operator()<4, 6>(d);
  if (D % kPairInputs) add.template operator()<5, 7>(D - D % kPairInputs);
  for_constants<COUNT>([&]<int N>() LEPTON_INLINE { store_tile<N>(scores + N * kBlockTokens, 4 * kScoreStride); });
}

// out[16 rows][COUNT strips of 16 dimensions] = weights x the values of blocks.
template <int COUNT>
static inline void weigh_pairs(const uint16_t* weights, const uint16_t* const* values, int begin, int end, int strip,
                               float* out, int D) {
  for_constants<COUNT>([&]<int N>() LEPTON_INLINE { zero_tile<N>(); });
  for (int b = begin; b < end; ++b) {
    load_tile<5>(weights + b * kBlockTokens, 2 * kWeightStride);
    for_constants<COUNT>([&]<int N>() LEPTON_INLINE {
      load_tile<7>(values[b] + (strip + N) * kStripPairs, 64);
      multiply_bf16<N, 5, 7>();
    });
  }
  for_constants<COUNT>([&]<int N>()
                           LEPTON_INLINE { store_tile<N>(out + (strip + N) * kPanelWidth, sizeof(float) * D); });
}

// `run` for the numbers [begin, end), kPairTiles at a time.
template <class Run>
static inline LEPTON_INLINE void by_pair_tiles(int begin, int end, const Run& run) {
  for (; begin + kPairTiles <= end; begin += kPairTiles) run.template operator()<kPairTiles>(begin);
  switch (end - begin) {
    case 3: return run.template operator()<3>(begin);
    case 2: return run.template operator()<2>(begin);
    case 1: return run.template operator()<1>(begin);
  }
}

// The scores [begin, end) of a row, those that it sees, become weights under the largest. Returns the sum.
static inline float weigh_row(const AttentionOp& op, const QueryTile& tile, int row, int64_t first, int begin, int end,
                              float* scores, uint16_t* weights, float* largest) {
  const int last = (end + kGroup - 1) / kGroup * kGroup;
  if (op.bias) {
    const float* bias = biases_of(op, tile, row, first);
    for (int j = begin; j < end; j += W) store(scores + j, load(scores + j) + load(bias + j));
  }
  seen_keys(op, tile, row, first, begin, last).hide_others(begin, last, scores);
  *largest = largest_of(scores, begin, last);
  VF totals[2] = {set1(0.0f), set1(0.0f)};
  for (int j = begin; j < last; j += 2 * W)
    for (int i = 0; i < 2; ++i) {
      const VF p = exp2_below((load(scores + j + i * W) - set1(*largest)) * set1(kLog2E));
      totals[i] = totals[i] + p;
      store_bf16(weights + j + i * W, p);
    }
  return reduce_add(totals[0] + totals[1]);
}

// A split from its first key on; `sums` become its own.
static void attend_pairs(const AttentionOp& op, const Step& step, const AttentionPart& part, int64_t first,
                         const AttentionScratch& s, SoftmaxSums& sums) {
  const QueryTile& tile = part.tile;
  const int D = op.head_dim, count = static_cast<int>(min64(kSplitKeys, tile.end(tile.rows - 1) - first));
  const int seen = first_seen(tile, first, count), begin = seen / kBlockTokens;
  const int end = (count + kBlockTokens - 1) / kBlockTokens;
  const uint16_t *keys[kSplitBlocks], *values[kSplitBlocks];
  for (int b = begin; b < end; ++b) {
    const PairedHead head(block_address(op, step, tile.seq, first + b * kBlockTokens, tile.kv_head), D);
    keys[b] = head.keys, values[b] = head.values;
  }
  configure_tiles(kPairLayout);
  for (int row = 0; row < tile.rows; row += kTileHeight)
    by_pair_tiles(begin, end, [&]<int COUNT>(int b) {
      score_pairs<COUNT>(paired_queries(s) + row * D, D, keys + b,
                         s.split_scores + row * kScoreStride + b * kBlockTokens);
    });
  for (int row = 0; row < tile.rows; ++row)
    sums.sum[row] =
        weigh_row(op, tile, row, first, seen / kGroup * kGroup, end * kBlockTokens, s.split_scores + row * kScoreStride,
                  paired_weights(s) + row * kWeightStride, sums.max + row);
  for (int row = 0; row < tile.rows; row += kTileHeight)
    by_pair_tiles(0, D / kPanelWidth, [&]<int COUNT>(int strip) {
      weigh_pairs<COUNT>(paired_weights(s) + row * kWeightStride, values, begin, end, strip, sums.values + row * D, D);
    });
}

}  // namespace lepton::LEPTON_ISA
