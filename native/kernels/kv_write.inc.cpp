// Keys and values go to the blocks of the cache before queries read them.

namespace lepton::LEPTON_ISA {

constexpr int kMaxHeadDim = 256;

static inline int64_t head_bytes(const AttentionOp& op) {
  return int64_t{kBlockTokens} * op.head_dim * (op.is_half ? 2 : 4);
}

static inline uint8_t* block_address(const AttentionOp& op, const Step& step, int seq, int64_t position, int kv_head) {
  const int32_t id =
      step.block_tables[op.group][int64_t{seq} * step.block_table_stride[op.group] + position / kBlockTokens];
  return step.kv_layers[op.layer] + id * step.kv_strides[op.layer] + kv_head * 2 * head_bytes(op);
}

static inline int find_seq(const Step& step, int64_t token) {
  int low = 0, high = step.num_seqs - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (step.query_offsets[middle] <= token)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

// The key of a token's head as it is kept: rotated where the model rotates, in `scratch`.
static inline const float* key_of(const AttentionOp& op, const Step& step, int64_t token, int head, float* scratch) {
  const float* k = op.k.row(step, token) + head * op.head_dim;
  if (!op.has_rope) return k;
  rotate_head(k, op.table.row(step, token), op.half_rotary, op.head_dim, op.interleaved, scratch);
  return scratch;
}

static inline uint16_t* values_of(const AttentionOp& op, uint8_t* block, int slot) {
  return reinterpret_cast<uint16_t*>(block + head_bytes(op)) + slot * op.head_dim;
}

static inline void store_halves(uint16_t* to, const float* x, int count) {
  for (int i = 0; i < count; i += W) store_half(to + i, load(x + i));
}

static void write_token(const AttentionOp& op, const Step& step, int seq, int64_t token, int64_t position) {
  const int D = op.head_dim, slot = static_cast<int>(position % kBlockTokens);
  for (int h = 0; h < op.num_kv_heads; ++h) {
    uint8_t* block = block_address(op, step, seq, position, h);
    float rotated[kMaxHeadDim];
    const float* k = key_of(op, step, token, h, rotated);
    const float* v = op.v.row(step, token) + h * D;
    if (op.is_half) {
      uint16_t* keys = reinterpret_cast<uint16_t*>(block);
      uint16_t halves[kMaxHeadDim];
      store_halves(halves, k, D);
      for (int d = 0; d < D; ++d) keys[d * kBlockTokens + slot] = halves[d];
      store_halves(values_of(op, block, slot), v, D);
    } else {
      float* keys = reinterpret_cast<float*>(block);
      for (int d = 0; d < D; ++d) keys[d * kBlockTokens + slot] = k[d];
      __builtin_memcpy(reinterpret_cast<float*>(block + head_bytes(op)) + slot * D, v, sizeof(float) * D);
    }
  }
}

// A whole block of halves at once: its keys are transposed in registers.
static void write_block(const AttentionOp& op, const Step& step, int seq, int64_t first_token, int64_t position) {
  const int D = op.head_dim;
  for (int h = 0; h < op.num_kv_heads; ++h) {
    uint8_t* block = block_address(op, step, seq, position, h);
    uint16_t* keys = reinterpret_cast<uint16_t*>(block);
    for (int slot = 0; slot < kBlockTokens; slot += W) {
      float rotated[W][kMaxHeadDim];
      const float* k[W];
      for (int i = 0; i < W; ++i) {
        k[i] = key_of(op, step, first_token + slot + i, h, rotated[i]);
        store_halves(values_of(op, block, slot + i), op.v.row(step, first_token + slot + i) + h * D, D);
      }
      for (int d = 0; d < D; d += W) {
        VF lanes[W];
        for (int i = 0; i < W; ++i) lanes[i] = load(k[i] + d);
        transpose(lanes);
        for (int i = 0; i < W; ++i) store_half(keys + (d + i) * kBlockTokens + slot, lanes[i]);
      }
    }
  }
}

// Keys of neighbouring tokens lie in the same cache lines: where there are many, a chunk is what a block gets of a
// sequence, else a token.
static bool writes_blocks(const Step& step) { return step.num_tokens > 2 * kBlockTokens; }

static int64_t first_position(const Step& step, int seq) {
  return step.kv_lengths[seq] - (step.query_offsets[seq + 1] - step.query_offsets[seq]);
}

static int64_t blocks_written(const Step& step, int seq) {
  const int64_t begin = first_position(step, seq), end = step.kv_lengths[seq];
  return end > begin ? (end - 1) / kBlockTokens - begin / kBlockTokens + 1 : 0;
}

static Chunks kv_write_chunks(const OpRecord&, const Step& step) {
  if (!writes_blocks(step)) return {step.num_tokens};
  int64_t total = 0;
  for (int s = 0; s < step.num_seqs; ++s) total += blocks_written(step, s);
  return {total, step.num_tokens > kRowBlock};
}

static void kv_write_run(const OpRecord& record, const Step& step, int64_t chunk, Scratch) {
  const AttentionOp& op = record.attention;
  if (!writes_blocks(step)) {
    const int seq = find_seq(step, chunk);
    return write_token(op, step, seq, chunk, step.kv_lengths[seq] - (step.query_offsets[seq + 1] - chunk));
  }
  int seq = 0;
  for (int64_t blocks; chunk >= (blocks = blocks_written(step, seq)); ++seq) chunk -= blocks;
  const int64_t first = first_position(step, seq), block = (first / kBlockTokens + chunk) * kBlockTokens;
  const int64_t begin = block < first ? first : block, end = min64(step.kv_lengths[seq], block + kBlockTokens);
  const int64_t token = step.query_offsets[seq] - first;  // of position 0
  if (op.is_half && end - begin == kBlockTokens) return write_block(op, step, seq, token + begin, begin);
  for (int64_t position = begin; position < end; ++position) write_token(op, step, seq, token + position, position);
}

}  // namespace lepton::LEPTON_ISA
