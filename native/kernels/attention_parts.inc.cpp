// How the queries and keys of a step are shared between threads.

namespace lepton::LEPTON_ISA {

constexpr int kThreadRuns = 6;  // chunks of parts that a thread gets, so that threads end together

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

// What is read of one head of a request.
struct KeyRange {
  int seq = 0, kv_head = 0;
  int64_t first = 0, end = 0;
};

// The rows of a tile with some splits of their keys.
struct AttentionPart {
  QueryTile tile;
  int64_t first_split, end_split;

  LEPTON_INLINE KeyRange keys() const {
    const int64_t end = min64(tile.end(tile.rows - 1), end_split * kSplitKeys), first = first_split * kSplitKeys;
    return {tile.seq, tile.kv_head, min64(end, tile.first_key > first ? tile.first_key : first), end};
  }

  // Those from `first` on; if there are none, `following`.
  LEPTON_INLINE KeyRange keys_from(int64_t first, const KeyRange& following) const {
    KeyRange range = keys();
    if (first >= range.end) return following;
    if (first > range.first) range.first = first;
    return range;
  }
};

// A step's parts, and how many of them make a chunk: while one is computed, the keys of the next are brought nearer.
struct AttentionParts {
  int64_t total = 0, per_chunk = 1;
  bool are_splits;
};

static int64_t parts_of(const AttentionOp& op, const Step& step, int seq, bool are_splits) {
  return num_tiles(op, step, seq) * op.num_kv_heads * (are_splits ? num_splits(step.kv_lengths[seq]) : 1);
}

static AttentionParts attention_parts(const AttentionOp& op, const Step& step) {
  AttentionParts parts;
  parts.are_splits = use_splits(op, step);
  for (int s = 0; s < step.num_seqs; ++s) parts.total += parts_of(op, step, s, parts.are_splits);
  // The tiles of a prompt see more and more keys: one by one, they keep all threads busy to the end.
  if (step.num_tokens > kRowBlock) return parts;
  parts.per_chunk = parts.total / (kThreadRuns * step.num_threads);
  if (parts.per_chunk < 1) parts.per_chunk = 1;
  return parts;
}

static Chunks attend_chunks(const OpRecord& record, const Step& step) {
  const AttentionParts parts = attention_parts(record.attention, step);
  return {(parts.total + parts.per_chunk - 1) / parts.per_chunk, step.num_tokens > kRowBlock};
}

static QueryTile query_tile(const AttentionOp& op, const Step& step, int seq, int kv_head, int64_t index) {
  const int64_t tokens = step.query_offsets[seq + 1] - step.query_offsets[seq];
  const int64_t begin = index * tile_tokens(op), count = min64(tile_tokens(op), tokens - begin);
  QueryTile t;
  t.seq = seq;
  t.kv_head = kv_head;
  t.heads = op.num_heads / op.num_kv_heads;
  t.rows = static_cast<int>(count) * t.heads;
  t.first_token = step.query_offsets[seq] + begin;
  t.first_position = step.kv_lengths[seq] - tokens + begin;
  t.num_keys = op.is_causal ? 0 : step.kv_lengths[seq];
  t.first_key = op.window && t.first_position >= op.window ? t.first_position - op.window + 1 : 0;
  return t;
}

// The part of an index. The tiles of one head follow each other: its keys and values stay in the cache of a core.
static AttentionPart locate(const AttentionOp& op, const Step& step, int64_t index, bool are_splits) {
  int s = 0;
  for (int64_t parts; index >= (parts = parts_of(op, step, s, are_splits)); ++s) index -= parts;
  const int64_t splits = are_splits ? num_splits(step.kv_lengths[s]) : 1, tiles = num_tiles(op, step, s);
  const int64_t split = index % splits, tile = index / splits;
  const QueryTile query = query_tile(op, step, s, static_cast<int>(tile / tiles), tile % tiles);
  const int64_t all = num_splits(query.end(query.rows - 1));
  return {query, are_splits ? split : 0, are_splits ? min64(split + 1, all) : all};
}

// Adds the blocks of the first `count` of some keys to what is asked for.
static void add_keys(const AttentionOp& op, const Step& step, const KeyRange& keys, int count, NextTile& next) {
  for (int64_t key = keys.first / kBlockTokens * kBlockTokens; key < min64(keys.end, keys.first + count);
       key += kBlockTokens)
    next.add(block_address(op, step, keys.seq, key, keys.kv_head));
}

}  // namespace lepton::LEPTON_ISA
