// Attention over a paged cache: each query reads its request's blocks (kv_read.inc.cpp; kv_write.inc.cpp writes them).
//
// Online softmax (Milakov & Gimelshein 2018; FlashAttention, Dao et al. 2022) over tiles of 64 keys, in splits of 256
// keys. Tiles and splits lie at fixed absolute positions and are merged in ascending order, so that a query's result
// does not depend on how its prompt was cut or on which thread did what. Of all keys, a causal query sees those up to
// its own position; of an encoder's sequence, which runs in one step, each query sees every key. A tile without visible
// keys changes nothing.

namespace lepton::LEPTON_ISA {

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

static inline void add_biases(const float* bias, float* scores) {
  for (int j = 0; j < kKeyTile; j += W) store(scores + j, load(scores + j) + load(bias + j));
}

// One tile of keys for all rows.
template <class T>
static void attend_tile(const AttentionOp& op, const QueryTile& tile, const KeyTile<T>& kv, int64_t first,
                        int64_t count, const AttentionScratch& s, NextTile& next, SoftmaxSums& sums) {
  const int D = op.head_dim, blocks = static_cast<int>((count + kBlockTokens - 1) / kBlockTokens);
  for (int r = 0; r < tile.rows; r += kPassRows)
    score_rest<kPassRows>(s.queries + r * D, kv.keys, blocks, D, op.scale, s.scores + r * kKeyTile,
                          static_cast<int>(min64(kPassRows, tile.rows - r)), next);
  alignas(64) float factors[kQueryRows] = {};
  for (int r = 0; r < tile.rows; ++r) {
    float* row = s.scores + r * kKeyTile;
    if (op.bias) add_biases(biases_of(op, tile, r, first), row);
    seen_keys(op, tile, r, first, 0, kKeyTile).hide_others(0, kKeyTile, row);
    factors[r] = largest_of(row, 0, kKeyTile);
  }
  for (int r = 0; r < tile.rows; r += W) {
    const VF before = load(sums.max + r), now = max(before, load(factors + r));
    store(sums.max + r, now);
    store(factors + r, exp(before - now));
  }
  for (int r = 0; r < tile.rows; ++r) softmax_row(s.scores + r * kKeyTile, sums.max[r], factors[r], &sums.sum[r]);
  const int begin = first_seen(tile, first, count);
  for (int r = 0; r < tile.rows;) {
    // Of narrow heads, more rows make as many sums.
    const int pass = D <= 2 * kPanelWidth ? kNarrowPassRows : kPassRows;
    const int rows = static_cast<int>(min64(pass, tile.rows - r));
    weigh_rest<kNarrowPassRows>(s.scores + r * kKeyTile, factors + r, kv.values, begin, static_cast<int>(count), D,
                                sums.values + r * D, rows, next);
    r += rows;
  }
}

// Keys [first, first + 64) up to the last key that any row sees.
static void attend_keys(const AttentionOp& op, const Step& step, const AttentionPart& part, const KeyRange& following,
                        int64_t first, const AttentionScratch& s, SoftmaxSums& sums) {
  const QueryTile& tile = part.tile;
  const int64_t count = min64(kKeyTile, tile.end(tile.rows - 1) - first);
  NextTile next(head_bytes(op), kTileBlocks, (op.head_dim + kKeyTile) / kFetchEvery);
  add_keys(op, step, part.keys_from(first + kKeyTile, following), kKeyTile, next);
  if (op.kv_type == KvType::F32)
    return attend_tile(op, tile, cached_tile<float>(op, step, tile, first, count), first, count, s, next, sums);
  if (op.kv_type == KvType::BF16)
    return attend_tile(op, tile, converted_pairs(op, step, tile, first, count, s.keys_f32, s.values_f32), first, count,
                       s, next, sums);
  // A conversion to f32 pays when more than one pass of rows reads it; both ways give the same bits.
  const KeyTile<uint16_t> kv = cached_tile<uint16_t>(op, step, tile, first, count);
  if (tile.rows <= kPassRows)
    attend_tile(op, tile, kv, first, count, s, next, sums);
  else
    attend_tile(op, tile, converted_tile(op, kv, count, s.keys_f32, s.values_f32), first, count, s, next, sums);
}

// One split from scratch: keys [split * 256, split * 256 + 256). `following` are those that are read after the part.
static void attend_split(const AttentionOp& op, const Step& step, const AttentionPart& part, const KeyRange& following,
                         int64_t split, const AttentionScratch& s, SoftmaxSums& sums) {
  const QueryTile& tile = part.tile;
  const int64_t end = tile.end(tile.rows - 1);
  const int64_t last = min64(end, (split + 1) * kSplitKeys);
  int64_t first = split * kSplitKeys;
  while (first < last && first + kKeyTile <= tile.first_key) first += kKeyTile;
  if (first < last && op.kv_type == KvType::I8)
    return attend_codes<1>(op, step, part, following, split * kSplitKeys, s, sums);
  if (first < last && op.kv_type == KvType::I16)
    return attend_codes<2>(op, step, part, following, split * kSplitKeys, s, sums);
#ifdef LEPTON_TILES
  if (first < last && op.kv_type == KvType::BF16) return attend_pairs(op, step, part, split * kSplitKeys, s, sums);
#endif
  for (int r = 0; r < kQueryRows; ++r) sums.max[r] = kLowest, sums.sum[r] = 0.0f;
  for (int i = 0; i < tile.rows * op.head_dim; ++i) sums.values[i] = 0.0f;
  for (; first < last; first += kKeyTile) attend_keys(op, step, part, following, first, s, sums);
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

static void attend_part(const AttentionOp& op, const Step& step, const AttentionPart& part, const KeyRange& following,
                        bool is_split, AttentionScratch& s) {
  const QueryTile& tile = part.tile;
  for (int64_t i = part.first_split; i < part.end_split; ++i) {
    SoftmaxSums& sums = is_split || i == 0 ? s.total : s.split;
    attend_split(op, step, part, following, i, s, sums);
    if (is_split)
      write_partials(op, step, tile, i, sums);
    else if (i > 0)
      merge_split(sums, tile.rows, op.head_dim, s.total);
  }
  if (is_split) return;
  for (int r = 0; r < tile.rows; ++r)
    write_head(op, step, tile.token(r), tile.kv_head * tile.heads + r % tile.heads, s.total.values + r * op.head_dim,
               s.total.sum[r]);
}

#ifdef LEPTON_TILES
static bool has_configured_tiles(const AttentionOp& op, const QueryTile& tile) {
  return op.kv_type == KvType::BF16 || (is_coded(op) && use_tiles(tile));
}
#endif

static void attend_run(const OpRecord& record, const Step& step, int64_t chunk, Scratch scratch) {
  const AttentionOp& op = record.attention;
  const AttentionParts parts = attention_parts(op, step);
  AttentionScratch s;
  carve(scratch, op.head_dim, s);
  const int64_t first = chunk * parts.per_chunk, end = min64(parts.total, first + parts.per_chunk);
  AttentionPart next = locate(op, step, first, parts.are_splits);
  for (int64_t i = first; i < end; ++i) {
    const AttentionPart part = next;
    KeyRange following;
    if (i + 1 < parts.total) {  // what follows a chunk begins the next of the same thread, as a rule
      next = locate(op, step, i + 1, parts.are_splits);
      following = next.keys();
    }
    load_queries(op, step, part.tile, s.queries);
    if (is_coded(op)) encode_queries(op, part.tile, s.queries, s.coded_queries);
#ifdef LEPTON_TILES
    if (op.kv_type == KvType::BF16) pair_queries(op, part.tile, s);
#endif
    attend_part(op, step, part, following, parts.are_splits, s);
#ifdef LEPTON_TILES
    if (has_configured_tiles(op, part.tile)) release_tiles();
#endif
  }
}

static Chunks attend_merge_chunks(const OpRecord& record, const Step& step) {
  return {attention_parts(record.attention, step).are_splits ? step.num_tokens * record.attention.num_heads : 0};
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
