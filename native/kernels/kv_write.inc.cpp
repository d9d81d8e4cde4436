// Keys and values go to the blocks of the cache before queries read them.

namespace lepton::LEPTON_ISA {

static bool is_coded(const AttentionOp& op) { return op.kv_type == KvType::I8 || op.kv_type == KvType::I16; }

// Bytes of a block's keys and values of one KV head.
static inline int64_t head_bytes(const AttentionOp& op) {
  if (op.kv_type == KvType::I8) return coded_head_bytes<1>(op.head_dim);
  if (op.kv_type == KvType::I16) return coded_head_bytes<2>(op.head_dim);
  return int64_t{2} * kBlockTokens * op.head_dim * (op.kv_type == KvType::F32 ? 4 : 2);
}

static inline uint8_t* block_address(const AttentionOp& op, const Step& step, int seq, int64_t position, int kv_head) {
  const int32_t id =
      step.block_tables[op.group][int64_t{seq} * step.block_table_stride[op.group] + position / kBlockTokens];
  const KvLayer& layer = step.kv_layers[op.layer];
  const int64_t place = int64_t{kv_head} * layer.run_blocks + id % layer.run_blocks;
  return layer.data + id / layer.run_blocks * layer.run_stride + place * head_bytes(op);
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

template <class T>
static inline T* values_of(const AttentionOp& op, uint8_t* block, int slot) {
  return reinterpret_cast<T*>(block) + (kBlockTokens + slot) * op.head_dim;
}

static inline void store_halves(uint16_t* to, const float* x, int count) {
  for (int i = 0; i < count; i += W) store_half(to + i, load(x + i));
}

// The key of a token's head, rotated as codes take it.
static inline void coded_key_of(const AttentionOp& op, const Step& step, int64_t token, int head, float* to) {
  const float* k = key_of(op, step, token, head, to);
  if (k != to) __builtin_memcpy(to, k, sizeof(float) * op.head_dim);
  rotate_head_values(to, op.head_dim);
}

// The codes of a token's value. Returns their scale.
static float encode_value(const AttentionOp& op, const Step& step, int64_t token, int head, int8_t* to) {
  const int D = op.head_dim;
  float codes[kMaxHeadDim];
  __builtin_memcpy(codes, op.v.row(step, token) + head * D, sizeof(float) * D);
  rotate_head_values(codes, D);
  const float scale = round_head(codes, D);
  store_head_codes(codes, D, to);
  return scale;
}

// Those of its key, less the base of its block.
static float encode_key(const AttentionOp& op, const Step& step, int64_t token, int head, const float* base,
                        float base_scale, int8_t* to) {
  float codes[kMaxHeadDim];
  coded_key_of(op, step, token, head, codes);
  const float scale = round_key(codes, base, base_scale, op.head_dim);
  store_head_codes(codes, op.head_dim, to);
  return scale;
}

// The base of a block that a token is written to, and its scale: out of the cache, unless the block's first token is of
// the same step. Who writes that one may be another thread, so that it is made again here.
static float base_of(const AttentionOp& op, const Step& step, int64_t token, int slot, bool is_of_step, int head,
                     const CodedHead<1>& block, float* base) {
  const int D = op.head_dim;
  if (is_of_step) {
    float key[kMaxHeadDim];
    coded_key_of(op, step, token - slot, head, key);
    return make_base(key, D, base);
  }
  for (int d = 0; d < D; d += W) store(base + d, load_scales(block.base + d));
  return *block.base_scale;
}

static void write_token_codes(const AttentionOp& op, const Step& step, int64_t token, int slot, bool is_base_of_step,
                              int head, uint8_t* block) {
  const int D = op.head_dim;
  const CodedHead<1> to(block, D);
  float base[kMaxHeadDim];
  int8_t codes[kMaxHeadDim];
  const float base_scale = base_of(op, step, token, slot, is_base_of_step, head, to, base);
  if (slot == 0) {
    store_head_codes(base, D, to.base);
    *to.base_scale = base_scale;
  }
  to.key_scales[slot] = encode_key(op, step, token, head, base, base_scale, codes);
  put_key(codes, D, slot, to.keys);
  to.value_scales[slot] = encode_value(op, step, token, head, codes);
  put_value(codes, D, slot, to.values);
}

// A key and a value of a token's head, in 16-bit codes.
static void write_token_codes16(const AttentionOp& op, const Step& step, int64_t token, int slot, int head,
                                uint8_t* block) {
  const int D = op.head_dim;
  const CodedHead<2> to(block, D);
  float rotated[kMaxHeadDim];
  int8_t bytes[2][kMaxHeadDim];
  const float* k = key_of(op, step, token, head, rotated);
  to.key_scales[slot] = encode16(k, D, bytes[0], bytes[1]);
  for (int i = 0; i < 2; ++i) put_key(bytes[i], D, slot, to.keys + i * kBlockTokens * D);
  to.value_scales[slot] = encode16(op.v.row(step, token) + head * D, D, bytes[0], bytes[1]);
  for (int i = 0; i < 2; ++i) put_value(bytes[i], D, slot, to.values + i * kBlockTokens * D);
}

static int64_t first_position(const Step& step, int seq) {
  return step.kv_lengths[seq] - (step.query_offsets[seq + 1] - step.query_offsets[seq]);
}

// Tiles multiply values that no query sees, by 0: after the last token of a sequence there are zeros.
static void write_token_pairs(const AttentionOp& op, const float* k, const float* v, int slot, bool is_last,
                              uint8_t* block) {
  const PairedHead to(block, op.head_dim);
  put_pairs(k, v, op.head_dim, slot, to);
  if (!is_last) return;
  for (int later = slot + 1; later < kBlockTokens; ++later)
    for (int d = 0; d < op.head_dim; ++d) to.value(later, d) = 0;
}

static void write_token(const AttentionOp& op, const Step& step, int seq, int64_t token, int64_t position, int head) {
  const int D = op.head_dim, slot = static_cast<int>(position % kBlockTokens);
  uint8_t* block = block_address(op, step, seq, position, head);
  if (op.kv_type == KvType::I8) {
    const bool is_base_of_step = position - slot >= first_position(step, seq);
    return write_token_codes(op, step, token, slot, is_base_of_step, head, block);
  }
  if (op.kv_type == KvType::I16) return write_token_codes16(op, step, token, slot, head, block);
  float rotated[kMaxHeadDim];
  const float* k = key_of(op, step, token, head, rotated);
  const float* v = op.v.row(step, token) + head * D;
  if (op.kv_type == KvType::BF16) {
    write_token_pairs(op, k, v, slot, position + 1 == step.kv_lengths[seq], block);
  } else if (op.kv_type == KvType::F16) {
    uint16_t* keys = reinterpret_cast<uint16_t*>(block);
    uint16_t halves[kMaxHeadDim];
    store_halves(halves, k, D);
    for (int d = 0; d < D; ++d) keys[d * kBlockTokens + slot] = halves[d];
    store_halves(values_of<uint16_t>(op, block, slot), v, D);
  } else {
    float* keys = reinterpret_cast<float*>(block);
    for (int d = 0; d < D; ++d) keys[d * kBlockTokens + slot] = k[d];
    __builtin_memcpy(values_of<float>(op, block, slot), v, sizeof(float) * D);
  }
}

// A whole block of halves at once: its keys are transposed in registers.
static void write_block_of_halves(const AttentionOp& op, const Step& step, int64_t first_token, int head,
                                  uint8_t* block) {
  const int D = op.head_dim;
  uint16_t* keys = reinterpret_cast<uint16_t*>(block);
  for (int slot = 0; slot < kBlockTokens; slot += W) {
    float rotated[W][kMaxHeadDim];
    const float* k[W];
    for (int i = 0; i < W; ++i) {
      const int64_t token = first_token + slot + i;
      k[i] = key_of(op, step, token, head, rotated[i]);
      store_halves(values_of<uint16_t>(op, block, slot + i), op.v.row(step, token) + head * D, D);
    }
    for (int d = 0; d < D; d += W) {
      VF lanes[W];
      for (int i = 0; i < W; ++i) lanes[i] = load(k[i] + d);
      transpose(lanes);
      for (int i = 0; i < W; ++i) store_half(keys + (d + i) * kBlockTokens + slot, lanes[i]);
    }
  }
}

// The same of codes.
static void write_block_of_codes(const AttentionOp& op, const Step& step, int64_t first_token, int head,
                                 uint8_t* block) {
  const int D = op.head_dim;
  const CodedHead<1> to(block, D);
  float base[kMaxHeadDim];
  int8_t key[kMaxHeadDim], values[4][kMaxHeadDim];
  *to.base_scale = base_of(op, step, first_token, 0, true, head, to, base);
  store_head_codes(base, D, to.base);
  for (int slot = 0; slot < kBlockTokens; ++slot) {
    const int64_t token = first_token + slot;
    to.key_scales[slot] = encode_key(op, step, token, head, base, *to.base_scale, key);
    put_key(key, D, slot, to.keys);
    to.value_scales[slot] = encode_value(op, step, token, head, values[slot % 4]);
    if (slot % 4 == 3) put_values(values[0], kMaxHeadDim, D, slot / 4, to.values);
  }
}

// The same of 16-bit codes.
static void write_block_of_codes16(const AttentionOp& op, const Step& step, int64_t first_token, int head,
                                   uint8_t* block) {
  const int D = op.head_dim;
  const CodedHead<2> to(block, D);
  float rotated[kMaxHeadDim];
  int8_t key[2][kMaxHeadDim], values[2][4][kMaxHeadDim];
  for (int slot = 0; slot < kBlockTokens; ++slot) {
    const int64_t token = first_token + slot;
    to.key_scales[slot] = encode16(key_of(op, step, token, head, rotated), D, key[0], key[1]);
    for (int i = 0; i < 2; ++i) put_key(key[i], D, slot, to.keys + i * kBlockTokens * D);
    const float* v = op.v.row(step, token) + head * D;
    to.value_scales[slot] = encode16(v, D, values[0][slot % 4], values[1][slot % 4]);
    if (slot % 4 == 3)
      for (int i = 0; i < 2; ++i) put_values(values[i][0], kMaxHeadDim, D, slot / 4, to.values + i * kBlockTokens * D);
  }
}

// The same of pairs.
static void write_block_of_pairs(const AttentionOp& op, const Step& step, int64_t first_token, int head,
                                 uint8_t* block) {
  const int D = op.head_dim;
  const PairedHead to(block, D);
  for (int slot = 0; slot < kBlockTokens; slot += W) {
    float rotated[W][kMaxHeadDim];
    const float* k[W];
    for (int i = 0; i < W; ++i) k[i] = key_of(op, step, first_token + slot + i, head, rotated[i]);
    put_paired_keys(k, D, slot, to);
  }
  const auto value = [&](int slot) { return op.v.row(step, first_token + slot) + head * D; };
  for (int slot = 0; slot < kBlockTokens; slot += 2) put_paired_values(value(slot), value(slot + 1), D, slot, to);
}

static void write_block(const AttentionOp& op, const Step& step, int head, int64_t first_token, uint8_t* block) {
  if (op.kv_type == KvType::I16)
    write_block_of_codes16(op, step, first_token, head, block);
  else if (op.kv_type == KvType::I8)
    write_block_of_codes(op, step, first_token, head, block);
  else if (op.kv_type == KvType::BF16)
    write_block_of_pairs(op, step, first_token, head, block);
  else
    write_block_of_halves(op, step, first_token, head, block);
}

// Keys of neighbouring tokens lie in the same cache lines: where sequences fill blocks, a chunk is what a block gets of
// a head, else a token.
static bool writes_blocks(const Step& step) { return step.num_tokens >= kBlockTokens * step.num_seqs; }

static int64_t blocks_written(const Step& step, int seq) {
  const int64_t begin = first_position(step, seq), end = step.kv_lengths[seq];
  return end > begin ? (end - 1) / kBlockTokens - begin / kBlockTokens + 1 : 0;
}

static Chunks kv_write_chunks(const OpRecord& record, const Step& step) {
  if (!writes_blocks(step)) return {step.num_tokens};
  int64_t total = 0;
  for (int s = 0; s < step.num_seqs; ++s) total += blocks_written(step, s);
  return {total * record.attention.num_kv_heads, step.num_tokens > kRowBlock};
}

static void kv_write_run(const OpRecord& record, const Step& step, int64_t chunk, Scratch) {
  const AttentionOp& op = record.attention;
  if (!writes_blocks(step)) {
    const int seq = find_seq(step, chunk);
    const int64_t position = step.kv_lengths[seq] - (step.query_offsets[seq + 1] - chunk);
    for (int h = 0; h < op.num_kv_heads; ++h) write_token(op, step, seq, chunk, position, h);
    return;
  }
  const int head = static_cast<int>(chunk % op.num_kv_heads);
  chunk /= op.num_kv_heads;
  int seq = 0;
  for (int64_t blocks; chunk >= (blocks = blocks_written(step, seq)); ++seq) chunk -= blocks;
  const int64_t first = first_position(step, seq), block = (first / kBlockTokens + chunk) * kBlockTokens;
  const int64_t begin = block < first ? first : block, end = min64(step.kv_lengths[seq], block + kBlockTokens);
  const int64_t token = step.query_offsets[seq] - first;  // of position 0
  if (op.kv_type != KvType::F32 && end - begin == kBlockTokens)
    return write_block(op, step, head, token + begin, block_address(op, step, seq, begin, head));
  for (int64_t position = begin; position < end; ++position)
    write_token(op, step, seq, token + position, position, head);
}

}  // namespace lepton::LEPTON_ISA
