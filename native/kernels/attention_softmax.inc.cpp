// Rows of queries, and the online softmax over their scores (Milakov & Gimelshein 2018; FlashAttention, Dao et al.
// 2022).

namespace lepton::LEPTON_ISA {

// (token, head) pairs of one KV head that share each key read. What tiles read is gathered for them.
#ifdef LEPTON_TILES
constexpr int kQueryRows = 192;
#else
constexpr int kQueryRows = 96;
#endif
constexpr int kSplitTokens = 8;  // steps up to this many tokens may spread one request's keys over threads
constexpr float kMasked = -__builtin_inff();

// Query rows of one KV head: row i is token first_token + i / heads, head kv_head * heads + i % heads.
struct QueryTile {
  int seq, kv_head, heads, rows;
  int64_t first_token, first_position;
  int64_t num_keys;   // of the request, if its tokens see all of them; else 0
  int64_t first_key;  // that some row sees

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
  // Of a cache of codes.
  float* split_scores;  // [rows][256], kScoreStride apart
  CodedRows coded_queries, weights;
  uint8_t* coded_values;  // two strips of 256 keys, or bases, in the memory of keys_f32 and values_f32
  alignas(64) float row_scales[2][kQueryRows];
  int32_t row_offsets[2][3][kQueryRows];

  CodedRows coded_rows(int index, int8_t* data, int64_t stride) {
    int32_t (&offsets)[3][kQueryRows] = row_offsets[index];
    return {data, data + kQueryRows * stride, stride, row_scales[index], offsets[0], offsets[1], offsets[2]};
  }
};

// Bytes of rows of codes of D dimensions: whole groups.
static inline int64_t coded_stride(int D) { return (D + kGroup - 1) / kGroup * kGroup; }

static void carve(Scratch scratch, int D, AttentionScratch& s) {
  float* p = reinterpret_cast<float*>(scratch.data);
  s.queries = p, p += kQueryRows * D;
  s.scores = p, p += kQueryRows * kKeyTile;
  s.base_scores = p, p += kQueryRows * kSplitBlocks;
  s.total.values = p, p += kQueryRows * D;
  s.split.values = p, p += kQueryRows * D;
  s.keys_f32 = p, p += kKeyTile * D;
  s.values_f32 = p, p += kKeyTile * D;
  s.split_scores = p, p += kQueryRows * kScoreStride;
  s.coded_values = reinterpret_cast<uint8_t*>(s.keys_f32);

  int8_t* bytes = reinterpret_cast<int8_t*>(p);
  s.coded_queries = s.coded_rows(0, bytes, coded_stride(D)), bytes += 2 * kQueryRows * coded_stride(D);
  s.weights = s.coded_rows(1, bytes, kWeightStride);
}

// What is added to a row's score of the key at `first`; those of the keys after it follow.
static inline const float* biases_of(const AttentionOp& op, const QueryTile& tile, int row, int64_t first) {
  const int head = tile.kv_head * tile.heads + row % tile.heads;
  return op.bias + int64_t{head} * op.bias_stride + op.bias_origin + (first - tile.position(row));
}

// Of some scores from a key on, those that a row sees: [begin, end).
struct SeenKeys {
  int begin, end;

  bool operator==(const SeenKeys&) const = default;

  // Hides the others of the scores [first, last).
  LEPTON_INLINE void hide_others(int first, int last, float* scores) const {
    for (int j = first; j < begin; ++j) scores[j] = kMasked;
    for (int j = end; j < last; ++j) scores[j] = kMasked;
  }
};

// Of the keys [begin, end), counted from the one at `first`.
static inline LEPTON_INLINE SeenKeys seen_keys(const AttentionOp& op, const QueryTile& tile, int row, int64_t first,
                                               int begin, int end) {
  const int64_t lowest = op.window ? tile.position(row) - op.window + 1 - first : 0, last = tile.end(row) - first;
  const int from = static_cast<int>(lowest < begin ? begin : min64(lowest, end));
  return {from, static_cast<int>(last < from ? from : min64(last, end))};
}

// The largest of the scores [begin, end), as many as fill pairs of vectors.
static inline LEPTON_INLINE float largest_of(const float* scores, int begin, int end) {
  VF largest[2] = {set1(kLowest), set1(kLowest)};
  for (int j = begin; j < end; j += 2 * W)
    for (int i = 0; i < 2; ++i) largest[i] = max(largest[i], load(scores + j + i * W));
  return reduce_max(max(largest[0], largest[1]));
}

// The first of a tile's keys that some row sees. Those below every row's window may belong to blocks that were given to
// others: what is there is not used.
static int first_seen(const QueryTile& tile, int64_t first, int64_t count) {
  const int64_t hidden = tile.first_key - first;
  return hidden > 0 ? static_cast<int>(min64(hidden, count)) : 0;
}

constexpr float kLog2E = 1.44269504088896341f;

// 2^x of x <= 0: 2^n * p(r) with n the integer below x, a polynomial of degree 4 within 2^-18 of 2^r, and 1 at 0.
static inline LEPTON_INLINE VF exp2_below(VF x) {
  VF r;
  const VF n = whole_below(x, &r);
  VF p = fma(set1(1.3426648e-02f), r, set1(5.2242533e-02f));
  p = fma(p, r, set1(2.4128018e-01f));
  p = fma(p, r, set1(6.9304485e-01f));
  return times_exp2(fma(p, r, set1(1.0f)), n);
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

}  // namespace lepton::LEPTON_ISA
