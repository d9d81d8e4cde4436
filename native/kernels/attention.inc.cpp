// Attention over a paged cache: each query reads its request's blocks (kv_read.inc.cpp; kv_write.inc.cpp writes them).
//
// Online softmax (Milakov & Gimelshein 2018; FlashAttention, Dao et al. 2022) over tiles of 64 keys, in splits of 256
// keys. Tiles and splits lie at fixed absolute positions and are merged in ascending order, so that a query's result
// does not depend on how its prompt was cut or on which thread did what. Of all keys, a causal query sees those up to
// its own position; of an encoder's sequence, which runs in one step, each query sees every key. A tile without visible
// keys changes nothing.

namespace lepton::LEPTON_ISA {

constexpr int kSplitKeys = 256;
constexpr int kSplitBlocks = kSplitKeys / kBlockTokens;
static_assert(kSplitBlocks == kBlockTokens, "the bases of a split make one block of keys");
constexpr int kQueryRows = 48;   // (token, head) pairs of one KV head that share each key read
constexpr int kSplitTokens = 8;  // steps up to this many tokens may spread one request's keys over threads
constexpr float kMasked = -__builtin_inff();

// Query rows of one KV head: row i is token first_token + i / heads, head kv_head * heads + i % heads.
struct QueryTile {
  int seq, kv_head, heads, rows;
  int64_t first_token, first_position;
  int64_t num_keys;  // of the request, if its tokens see all of them; else 0

  int64_t token(int row) const { return first_token + row / heads; }
  int64_t position(int row) const { return first_position + row / heads; }
  // One past the last key that the row sees.
  int64_t end(int row) const { return num_keys ? num_keys : position(row) + 1; }
};

// What a softmax over some of the keys comes to: for each row the largest score, the sum of exponentials under it, and
// the values weighed by them.
struct SoftmaxSums {
  float* values;  // [rows][D]
  alignas(64) float max[kQueryRows];
  float sum[kQueryRows];
};

// Working memory of one tile; the arrays are followed by each other in the thread's scratch.
struct AttentionScratch {
  float* queries;      // [rows][D], rotated by position, and as keys are where they are codes
  float* scores;       // [rows][64]
  float* base_scores;  // [rows][16 blocks of a split]
  float* keys_f32;     // [4 blocks][D][16]
  float* values_f32;   // [64][D]
  SoftmaxSums total, split;
};

static AttentionScratch carve(Scratch scratch, int D) {
  float* p = reinterpret_cast<float*>(scratch.data);
  AttentionScratch s;
  s.queries = p, p += kQueryRows * D;
  s.scores = p, p += kQueryRows * kKeyTile;
  s.base_scores = p, p += kQueryRows * kSplitBlocks;
  s.total.values = p, p += kQueryRows * D;
  s.split.values = p, p += kQueryRows * D;
  s.keys_f32 = p, p += kKeyTile * D;
  s.values_f32 = p;
  return s;
}

static int tile_tokens(const AttentionOp& op) {
  const int heads = op.num_heads / op.num_kv_heads;
  return heads >= kQueryRows ? 1 : kQueryRows / heads;
}

static int64_t num_tiles(const AttentionOp& op, const Step& step, int seq) {
  const int64_t tokens = step.query_offsets[seq + 1] - step.query_offsets[seq];
  return (tokens + tile_tokens(op) - 1) / tile_tokens(op);
}

static inline int64_t num_splits(int64_t kv_length) { return (kv_length + kSplitKeys - 1) / kSplitKeys; }

// Whether to spread the splits of one query over threads: it changes who computes, never what.
static bool use_splits(const AttentionOp& op, const Step& step) {
  if (step.num_tokens > kSplitTokens || step.num_seqs * op.num_kv_heads >= 4 * step.num_threads) return false;
  for (int s = 0; s < step.num_seqs; ++s)
    if (step.kv_lengths[s] > 2 * kSplitKeys) return step.num_threads > 1;
  return false;
}

static Chunks attend_chunks(const OpRecord& record, const Step& step) {
  const AttentionOp& op = record.attention;
  const bool split = use_splits(op, step);
  int64_t total = 0;
  for (int s = 0; s < step.num_seqs; ++s)
    total += num_tiles(op, step, s) * op.num_kv_heads * (split ? num_splits(step.kv_lengths[s]) : 1);
  return {total, step.num_tokens > kRowBlock};
}

// The tile (and the split) that a chunk stands for.
static QueryTile locate(const AttentionOp& op, const Step& step, int64_t chunk, bool split, int64_t* split_index) {
  int s = 0;
  int64_t per_seq;
  while (chunk >= (per_seq = num_tiles(op, step, s) * op.num_kv_heads * (split ? num_splits(step.kv_lengths[s]) : 1)))
    chunk -= per_seq, ++s;
  if (split) {
    *split_index = chunk % num_splits(step.kv_lengths[s]);
    chunk /= num_splits(step.kv_lengths[s]);
  }
  const int64_t tile = chunk / op.num_kv_heads;
  const int64_t tokens = step.query_offsets[s + 1] - step.query_offsets[s];
  const int64_t begin = tile * tile_tokens(op), count = min64(tile_tokens(op), tokens - begin);
  QueryTile t;
  t.seq = s;
  t.kv_head = static_cast<int>(chunk % op.num_kv_heads);
  t.heads = op.num_heads / op.num_kv_heads;
  t.rows = static_cast<int>(count) * t.heads;
  t.first_token = step.query_offsets[s] + begin;
  t.first_position = step.kv_lengths[s] - tokens + begin;
  t.num_keys = op.is_causal ? 0 : step.kv_lengths[s];
  return t;
}

static void load_queries(const AttentionOp& op, const Step& step, const QueryTile& tile, float* queries) {
  for (int r = 0; r < tile.rows; ++r) {
    const float* q = op.q.row(step, tile.token(r)) + (tile.kv_head * tile.heads + r % tile.heads) * op.head_dim;
    float* y = queries + r * op.head_dim;
    if (op.has_rope)
      rotate_head(q, op.table.row(step, tile.token(r)), op.half_rotary, op.head_dim, op.interleaved, y);
    else
      __builtin_memcpy(y, q, sizeof(float) * op.head_dim);
    if (op.kv_type == KvType::I8) rotate_head_values(y, op.head_dim);
  }
}

// Adds the biases of the tile's keys, the first of which is at `first`, to the scores of all rows.
static void add_biases(const AttentionOp& op, const QueryTile& tile, int64_t first, float* scores) {
  for (int r = 0; r < tile.rows; ++r) {
    const int head = tile.kv_head * tile.heads + r % tile.heads;
    const float* bias = op.bias + int64_t{head} * op.bias_stride + op.bias_origin + (first - tile.position(r));
    float* row = scores + r * kKeyTile;
    for (int j = 0; j < kKeyTile; j += W) store(row + j, load(row + j) + load(bias + j));
  }
}

// Hides the scores of keys outside [lowest, count) and moves the running maximum; returns by how much it grows.
static inline LEPTON_INLINE float mask_row(float* scores, int64_t lowest, int64_t count, float* row_max) {
  for (int64_t j = 0; j < min64(lowest, kKeyTile); ++j) scores[j] = kMasked;
  for (int64_t j = count < 0 ? 0 : count; j < kKeyTile; ++j) scores[j] = kMasked;
  VF largest = load(scores);
  for (int j = W; j < kKeyTile; j += W) largest = max(largest, load(scores + j));
  const float before = *row_max, here = reduce_max(largest), now = here > before ? here : before;
  *row_max = now;
  return before - now;
}

// Scores -> probabilities under the running maximum; `factor` is that of what was summed before.
static inline LEPTON_INLINE void softmax_row(float* scores, float row_max, float factor, float* row_sum) {
  VF total = set1(0.0f);
  for (int j = 0; j < kKeyTile; j += W) {
    const VF p = exp(load(scores + j) - set1(row_max));
    store(scores + j, p);
    total = total + p;
  }
  *row_sum = *row_sum * factor + reduce_add(total);
}

// What the bases of a split's blocks of codes, the keys [first, last) of it, add to the scores of all rows.
static void score_bases(const AttentionOp& op, const Step& step, const QueryTile& tile, int64_t split, int64_t first,
                        int64_t last, const AttentionScratch& s) {
  alignas(64) float factors[kSplitBlocks];
  const int D = op.head_dim;
  const float* keys = s.keys_f32;
  NextTile none = NextTile::none();
  read_bases(op, step, tile.seq, tile.kv_head, split * kSplitKeys, first, last, s.keys_f32, factors);
  for (int r = 0; r < tile.rows; r += kNarrowPassRows)
    score_rest<kNarrowPassRows>(s.queries + r * D, &keys, 1, D, factors, s.scores + r * kKeyTile,
                                static_cast<int>(min64(kNarrowPassRows, tile.rows - r)), none);
  for (int r = 0; r < tile.rows; ++r)
    __builtin_memcpy(s.base_scores + r * kSplitBlocks, s.scores + r * kKeyTile, sizeof(float) * kSplitBlocks);
}

// Adds them to the scores of the tile whose first key is at `first`.
static void add_base_scores(const QueryTile& tile, int64_t first, int blocks, const AttentionScratch& s) {
  const int first_block = static_cast<int>(first % kSplitKeys) / kBlockTokens;
  for (int r = 0; r < tile.rows; ++r)
    for (int b = 0; b < blocks; ++b) {
      const VF score = set1(s.base_scores[r * kSplitBlocks + first_block + b]);
      float* row = s.scores + r * kKeyTile + b * kBlockTokens;
      for (int j = 0; j < kBlockTokens; j += W) store(row + j, load(row + j) + score);
    }
}

// One tile of keys for all rows.
template <class T>
static void attend_tile(const AttentionOp& op, const QueryTile& tile, const KeyTile<T>& kv, int64_t first,
                        int64_t count, const AttentionScratch& s, NextTile& next, SoftmaxSums& sums) {
  const int D = op.head_dim, blocks = static_cast<int>((count + kBlockTokens - 1) / kBlockTokens);
  for (int r = 0; r < tile.rows; r += kPassRows)
    score_rest<kPassRows>(s.queries + r * D, kv.keys, blocks, D, kv.scales.key_factors, s.scores + r * kKeyTile,
                          static_cast<int>(min64(kPassRows, tile.rows - r)), next);
  if (op.kv_type == KvType::I8) add_base_scores(tile, first, blocks, s);
  if (op.bias) add_biases(op, tile, first, s.scores);
  alignas(64) float factors[kQueryRows] = {};
  for (int r = 0; r < tile.rows; ++r) {
    const int64_t position = tile.position(r);
    const int64_t lowest = op.window ? position - op.window + 1 - first : 0;
    factors[r] = mask_row(s.scores + r * kKeyTile, lowest, tile.end(r) - first, &sums.max[r]);
  }
  for (int r = 0; r < tile.rows; r += W) store(factors + r, exp(load(factors + r)));
  for (int r = 0; r < tile.rows; ++r) {
    float* row = s.scores + r * kKeyTile;
    softmax_row(row, sums.max[r], factors[r], &sums.sum[r]);
    if (op.kv_type == KvType::I8)
      for (int j = 0; j < blocks * kBlockTokens; j += W)
        store(row + j, load(row + j) * load(kv.scales.value_scales + j));
  }
  // Values below every row's window may belong to blocks that were given to others: they are not touched.
  const int64_t hidden = op.window ? tile.first_position - op.window + 1 - first : 0;
  const int begin = hidden > 0 ? static_cast<int>(min64(hidden, count)) : 0;
  for (int r = 0; r < tile.rows;) {
    // Of narrow heads, more rows make as many sums.
    const int pass = D <= 2 * kPanelWidth ? kNarrowPassRows : kPassRows;
    const int rows = static_cast<int>(min64(pass, tile.rows - r));
    weigh_rest<kNarrowPassRows>(s.scores + r * kKeyTile, factors + r, kv.values, begin, static_cast<int>(count), D,
                                sums.values + r * D, rows, next);
    r += rows;
  }
}

// A conversion to f32 pays when more than one pass of rows reads it; both ways give the same bits.
template <class T>
static void attend_narrow(const AttentionOp& op, const QueryTile& tile, const KeyTile<T>& kv, int64_t first,
                          int64_t count, const AttentionScratch& s, NextTile& next, SoftmaxSums& sums) {
  if (tile.rows <= kPassRows)
    attend_tile(op, tile, kv, first, count, s, next, sums);
  else
    attend_tile(op, tile, converted_tile(op, kv, count, s.keys_f32, s.values_f32), first, count, s, next, sums);
}

// Keys [first, first + 64) up to `end`, which is one past the last key that any row sees.
static void attend_keys(const AttentionOp& op, const Step& step, const QueryTile& tile, int64_t first, int64_t end,
                        const AttentionScratch& s, SoftmaxSums& sums) {
  const int64_t count = min64(kKeyTile, end - first);
  NextTile next(head_bytes(op), (op.head_dim + kKeyTile) / kFetchEvery);
  for (int64_t key = first + kKeyTile; key < min64(end, first + 2 * kKeyTile); key += kBlockTokens)
    next.add(block_address(op, step, tile.seq, key, tile.kv_head));
  switch (op.kv_type) {
    case KvType::F32:
      return attend_tile(op, tile, cached_tile<float>(op, step, tile.seq, tile.kv_head, first, count), first, count, s,
                         next, sums);
    case KvType::F16:
      return attend_narrow(op, tile, cached_tile<uint16_t>(op, step, tile.seq, tile.kv_head, first, count), first,
                           count, s, next, sums);
    case KvType::I8:
      return attend_narrow(op, tile, cached_tile<int8_t>(op, step, tile.seq, tile.kv_head, first, count), first, count,
                           s, next, sums);
  }
}

// One split from scratch: keys [split * 256, split * 256 + 256).
static void attend_split(const AttentionOp& op, const Step& step, const QueryTile& tile, int64_t split,
                         const AttentionScratch& s, SoftmaxSums& sums) {
  for (int r = 0; r < kQueryRows; ++r) sums.max[r] = kLowest, sums.sum[r] = 0.0f;
  for (int i = 0; i < tile.rows * op.head_dim; ++i) sums.values[i] = 0.0f;
  const int64_t end = tile.end(tile.rows - 1);
  const int64_t visible = op.window ? tile.first_position - op.window + 1 : 0;
  const int64_t last = min64(end, (split + 1) * kSplitKeys);
  int64_t first = split * kSplitKeys;
  while (first < last && first + kKeyTile <= visible) first += kKeyTile;
  if (op.kv_type == KvType::I8 && first < last) score_bases(op, step, tile, split, first, last, s);
  for (; first < last; first += kKeyTile) attend_keys(op, step, tile, first, end, s, sums);
}

// One row of `D` values: those so far and those of one more split, each brought to the maximum of both.
static inline void merge_row(float factor, float split_factor, const float* split_values, int D, float* values) {
  for (int d = 0; d < D; d += W)
    store(values + d, fma(load(split_values + d), set1(split_factor), load(values + d) * set1(factor)));
}

// total = total merged with one split.
static void merge_split(const SoftmaxSums& split, int rows, int D, SoftmaxSums& total) {
  alignas(64) float factors[kQueryRows], split_factors[kQueryRows];
  for (int r = 0; r < rows; r += W) {
    const VF before = load(total.max + r), other = load(split.max + r), now = max(before, other);
    store(factors + r, exp(before - now));
    store(split_factors + r, exp(other - now));
    store(total.max + r, now);
  }
  for (int r = 0; r < rows; ++r) {
    total.sum[r] = total.sum[r] * factors[r] + split.sum[r] * split_factors[r];
    merge_row(factors[r], split_factors[r], split.values + r * D, D, total.values + r * D);
  }
}

static void write_head(const AttentionOp& op, const Step& step, int64_t token, int head, float* total, float sum) {
  const int D = op.head_dim;
  VF inverse = set1(1.0f / sum);
  if (op.kv_type == KvType::I8) {
    rotate_head_values(total, D);
    inverse = inverse * set1(1.0f / static_cast<float>(head_rotation(D)));
  }
  for (int d = 0; d < D; d += W) store(total + d, load(total + d) * inverse);
  if (op.quantize) {
    Q8Group* groups = op.y.row<Q8Group>(step, token) + int64_t{head} * D / kGroup;
    for (int d = 0; d < D; d += kGroup) quantize_group(total + d, groups + d / kGroup);
  } else {
    __builtin_memcpy(op.y.row(step, token) + head * D, total, sizeof(float) * D);
  }
}

static inline float* partial_of(const AttentionOp& op, const Step& step, int64_t token, int head, int64_t split) {
  return op.partial.row(step, token) + (int64_t{head} * op.max_splits + split) * (op.head_dim + 2);
}

// A split's sums leave the thread that made them: attend_merge adds them up.
static void write_partials(const AttentionOp& op, const Step& step, const QueryTile& tile, int64_t split,
                           const SoftmaxSums& sums) {
  for (int r = 0; r < tile.rows; ++r) {
    float* out = partial_of(op, step, tile.token(r), tile.kv_head * tile.heads + r % tile.heads, split);
    out[0] = sums.max[r];
    out[1] = sums.sum[r];
    __builtin_memcpy(out + 2, sums.values + r * op.head_dim, sizeof(float) * op.head_dim);
  }
}

static void attend_run(const OpRecord& record, const Step& step, int64_t chunk, Scratch scratch) {
  const AttentionOp& op = record.attention;
  const int D = op.head_dim;
  const bool split = use_splits(op, step);
  int64_t only = 0;
  const QueryTile tile = locate(op, step, chunk, split, &only);
  AttentionScratch s = carve(scratch, D);
  load_queries(op, step, tile, s.queries);
  attend_split(op, step, tile, only, s, s.total);
  if (split) return write_partials(op, step, tile, only, s.total);
  const int64_t splits = num_splits(tile.end(tile.rows - 1));
  for (int64_t i = 1; i < splits; ++i) {
    attend_split(op, step, tile, i, s, s.split);
    merge_split(s.split, tile.rows, D, s.total);
  }
  for (int r = 0; r < tile.rows; ++r)
    write_head(op, step, tile.token(r), tile.kv_head * tile.heads + r % tile.heads, s.total.values + r * D,
               s.total.sum[r]);
}

static Chunks attend_merge_chunks(const OpRecord& record, const Step& step) {
  return {use_splits(record.attention, step) ? step.num_tokens * record.attention.num_heads : 0};
}

static void attend_merge_run(const OpRecord& record, const Step& step, int64_t chunk, Scratch scratch) {
  const AttentionOp& op = record.attention;
  const int64_t token = chunk / op.num_heads;
  const int head = static_cast<int>(chunk % op.num_heads), seq = find_seq(step, token), D = op.head_dim;
  const int64_t later = op.is_causal ? step.query_offsets[seq + 1] - token - 1 : 0;
  float* values = reinterpret_cast<float*>(scratch.data);
  const float* first = partial_of(op, step, token, head, 0);
  float max = first[0], sum = first[1];
  __builtin_memcpy(values, first + 2, sizeof(float) * D);
  for (int64_t i = 1; i < num_splits(step.kv_lengths[seq] - later); ++i) {
    const float* partial = partial_of(op, step, token, head, i);
    const float now = partial[0] > max ? partial[0] : max;
    const float factor = exp1(max - now), split_factor = exp1(partial[0] - now);
    max = now;
    sum = sum * factor + partial[1] * split_factor;
    merge_row(factor, split_factor, partial + 2, D, values);
  }
  write_head(op, step, token, head, values, sum);
}

}  // namespace lepton::LEPTON_ISA
