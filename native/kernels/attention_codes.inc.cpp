// Attention over a cache of codes, a split of keys at a time. Scores are products of codes, and so are weighed values:
// exponentials are taken under the largest score of the split and, times the scales of values, become codes.

namespace lepton::LEPTON_ISA {

// How often a split asks for what comes next while it is scored, and as often while it is weighed: about once for a
// product of a step with as many rows and panels as go together.
template <int BYTES>
static int coded_fetches(const CodedSplit<BYTES>& kv, int rows) {
  const int passes = (rows + kCodedRows - 1) / kCodedRows, steps = (kv.blocks - kv.begin) * kv.D / kStepInputs;
  const int products = 2 * passes * kStepFetches<BYTES> * ((steps + kTilePanels - 1) / kTilePanels);
  return products + rows * (kv.blocks - kv.begin) * kBlockTokens / kGroup;
}

static void encode_queries(const AttentionOp& op, const QueryTile& tile, const float* queries, const CodedRows& to) {
  for (int r = 0; r < tile.rows; ++r) {
    const float* q = queries + r * op.head_dim;
    if (op.kv_type == KvType::I8)
      to.encode<1>(r, q, op.head_dim);
    else
      to.encode<2>(r, q, op.head_dim);
  }
}

// What makes scores of products of codes, scales of queries and keys apart.
template <int BYTES>
static float score_unit(const AttentionOp& op) {
  return BYTES == 2 ? kUnit<BYTES> * op.scale : op.scale / static_cast<float>(head_rotation(op.head_dim));
}

// Of the keys [first, first + count), those from `seen` on.
template <int BYTES>
static void read_codes(const AttentionOp& op, const Step& step, const QueryTile& tile, int64_t first, int seen,
                       int count, CodedSplit<BYTES>& to) {
  to.D = op.head_dim;
  to.begin = seen / kKeyTile * kTileBlocks;
  to.blocks = (count + kBlockTokens - 1) / kBlockTokens;
  const VF unit = set1(score_unit<BYTES>(op));
  for (int b = to.begin; b < to.blocks; ++b) {
    const CodedHead<BYTES> head(block_address(op, step, tile.seq, first + b * kBlockTokens, tile.kv_head), op.head_dim);
    to.keys[b] = head.keys;
    to.values[b] = head.values;
    for (int i = 0; i < kBlockTokens; i += W) {
      store(to.key_factors + b * kBlockTokens + i, load(head.key_scales + i) * unit);
      store(to.value_scales + b * kBlockTokens + i, load(head.value_scales + i));
    }
  }
  // Of slots that nobody wrote, a scale may be NaN.
  for (int j = to.first_key(); j < seen; ++j) to.value_scales[j] = 0.0f;
  for (int j = count; j < to.end_code(); ++j) to.value_scales[j] = 0.0f;
}

// The bases of a split's blocks, the keys of one panel.
struct BasePanel {
  const uint8_t* keys;
  alignas(64) float factors[kSplitBlocks] = {};

  BasePanel(const AttentionOp& op, const CodedSplit<1>& kv, uint8_t* plane) : keys(plane) {
    for (int b = kv.begin; b < kv.blocks; ++b) {
      const CodedHead<1> head(kv.keys[b], kv.D);
      put_key(head.base, kv.D, b, plane);
      factors[b] = *head.base_scale * score_unit<1>(op);
    }
  }

  KeyPanels panels() const { return {&keys, factors, 0, 1}; }
};

// What makes codes of exponentials: the scales of values that a row sees, times a factor.
struct WeightCoder {
  alignas(64) float factors[kSplitKeys];
  float scale;  // of products of codes

  template <int BYTES>
  void set(const CodedSplit<BYTES>& kv, SeenKeys seen) {
    for (int j = kv.first_key(); j < kv.end_code(); j += W) store(factors + j, load(kv.value_scales + j));
    for (int j = kv.first_key(); j < seen.begin; ++j) factors[j] = 0.0f;
    for (int j = seen.end; j < kv.end_code(); ++j) factors[j] = 0.0f;
    const float largest = amax_of(factors + kv.first_key(), kv.end_code() - kv.first_key());
    const VF factor = set1(code16_factor(largest));
    for (int j = kv.first_key(); j < kv.end_code(); j += W) store(factors + j, load(factors + j) * factor);
    scale = code16_scale(largest) * kUnit<BYTES>;
  }
};

// Scores, `factor` times of which are powers of 2, become codes of weights under the largest. Returns the sum of
// powers.
template <int BYTES>
static inline float encode_weights(const float* scores, float largest, float factor, const WeightCoder& coder,
                                   const CodedSplit<BYTES>& kv, int8_t* high, int8_t* low, NextTile& next) {
  constexpr int parts = kGroup / W;
  const VF most = set1(largest), scale = set1(factor);
  VF totals[parts];
  for (int i = 0; i < parts; ++i) totals[i] = set1(0.0f);
  for (int j = kv.first_key(); j < kv.end_code(); j += kGroup) {
    VF codes[parts];
    next.fetch();
    for (int i = 0; i < parts; ++i) {
      const VF p = exp2_below((load(scores + j + i * W) - most) * scale);
      totals[i] = totals[i] + p;
      codes[i] = p * load(coder.factors + j + i * W);
    }
    split_codes16(codes, high + j, low + j);
  }
  if (const int rest = kv.end_key() - kv.end_code()) {
    __builtin_memset(high + kv.end_code(), 0, rest);
    __builtin_memset(low + kv.end_code(), 0, rest);
  }
  VF total = totals[0];
  for (int i = 1; i < parts; ++i) total = total + totals[i];
  return reduce_add(total);
}

// Of the scores of rows, the largest, and what makes logits of them.
struct RowScores {
  float largest[kQueryRows], factors[kQueryRows];
};

// The scores of a row get their biases, and those of keys that it does not see are hidden.
template <int BYTES>
static inline void finish_scores(const AttentionOp& op, const QueryTile& tile, int row, int64_t first,
                                 const CodedSplit<BYTES>& kv, SeenKeys seen, const AttentionScratch& s, RowScores& to) {
  float* scores = s.split_scores + row * kScoreStride;
  // Of a query of zeros all scores are 0, and those of hidden keys must stay below.
  float factor = s.coded_queries.scales[row] == 0.0f ? 1.0f : s.coded_queries.scales[row];
  if (op.bias) {
    const float* bias = biases_of(op, tile, row, first);
    for (int j = kv.first_key(); j < kv.end_code(); j += W)
      store(scores + j, fma(load(scores + j), set1(factor), load(bias + j)));
    factor = 1.0f;
  }
  seen.hide_others(kv.first_key(), kv.end_code(), scores);
  to.largest[row] = largest_of(scores, kv.first_key(), kv.end_code());
  to.factors[row] = factor;
}

// The scores of all rows become codes of weights, and what their softmax has but values goes to `sums`. The largest
// scores are found for all rows first: nothing then waits for them.
template <int BYTES>
static void encode_split(const AttentionOp& op, const QueryTile& tile, int64_t first, const CodedSplit<BYTES>& kv,
                         const AttentionScratch& s, SoftmaxSums& sums, NextTile& next) {
  RowScores rows;
  const auto seen_by = [&](int row) { return seen_keys(op, tile, row, first, kv.first_key(), kv.end_code()); };
  for (int row = 0; row < tile.rows; ++row) {
    finish_scores(op, tile, row, first, kv, seen_by(row), s, rows);
    sums.max[row] = rows.largest[row] > kLowest ? rows.largest[row] * rows.factors[row] : kLowest;
  }
  const CodedRows& to = s.weights;
  WeightCoder coder;
  SeenKeys before{-1, -1};
  for (int row = 0; row < tile.rows; ++row) {
    const SeenKeys seen = seen_by(row);
    if (!(seen == before)) coder.set(kv, seen);
    before = seen;
    sums.sum[row] = encode_weights(s.split_scores + row * kScoreStride, rows.largest[row], rows.factors[row] * kLog2E,
                                   coder, kv, to.high + row * to.stride, to.low + row * to.stride, next);
    to.scales[row] = coder.scale;
  }
}

#ifdef LEPTON_TILES
static bool use_tiles(const QueryTile& tile) { return tile.rows >= kTileHeight; }
#endif

// Scores of panels of keys, by tiles where rows fill them.
template <int BYTES, bool HAS_BASES>
static void score_panels(const QueryTile& tile, const AttentionScratch& s, const KeyPanels& kv, int D,
                         const CodedScores<HAS_BASES>& to, NextTile& next) {
#ifdef LEPTON_TILES
  if (use_tiles(tile)) return score_coded_tiles<BYTES>(s.coded_queries, tile.rows, kv, D, to);
#endif
  score_coded<BYTES>(s.coded_queries, tile.rows, kv, D, to, next);
}

template <int BYTES>
static void score_split(const AttentionOp& op, const QueryTile& tile, const CodedSplit<BYTES>& kv,
                        const AttentionScratch& s, NextTile& next) {
  if constexpr (BYTES == 1) {
    NextTile none = NextTile::none();
    const BasePanel bases(op, kv, s.coded_values);
    score_panels<1>(tile, s, bases.panels(), kv.D, CodedScores<false>{s.base_scores, kSplitBlocks}, none);
    score_panels<1>(tile, s, kv.panels(), kv.D, CodedScores<true>{s.split_scores, kScoreStride, s.base_scores}, next);
  } else {
    score_panels<2>(tile, s, kv.panels(), kv.D, CodedScores<false>{s.split_scores, kScoreStride}, next);
  }
}

// A split from its first key on; `sums` become its own.
template <int BYTES>
static void attend_codes(const AttentionOp& op, const Step& step, const AttentionPart& part, const KeyRange& following,
                         int64_t first, const AttentionScratch& s, SoftmaxSums& sums) {
  const QueryTile& tile = part.tile;
  const int count = static_cast<int>(min64(kSplitKeys, tile.end(tile.rows - 1) - first));
  CodedSplit<BYTES> kv;
  read_codes(op, step, tile, first, first_seen(tile, first, count), count, kv);
#ifdef LEPTON_TILES
  if (use_tiles(tile)) {
    // Nothing is asked for ahead: many rows wait for the core more than for memory.
    NextTile none = NextTile::none();
    score_split(op, tile, kv, s, none);
    encode_split(op, tile, first, kv, s, sums, none);
    return weigh_coded_tiles(s.weights, tile.rows, kv, s.coded_values, sums.values);
  }
#endif
  NextTile next(head_bytes(op), kSplitBlocks, coded_fetches(kv, tile.rows));
  add_keys(op, step, part.keys_from(first + kSplitKeys, following), kSplitKeys, next);
  score_split(op, tile, kv, s, next);
  encode_split(op, tile, first, kv, s, sums, next);
  weigh_coded(s.weights, tile.rows, kv, sums.values, next);
}

}  // namespace lepton::LEPTON_ISA
