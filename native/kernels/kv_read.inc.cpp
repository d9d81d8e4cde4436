// Keys and values out of the cache, a tile of keys at a time, as the inner loops of attention read them.

namespace lepton::LEPTON_ISA {

// What a tile has beside keys and values. Of slots that nobody wrote, it may be NaN.
struct TileScales {
  alignas(64) float key_factors[kKeyTile];  // of a product of a query with each key
  float value_scales[kKeyTile];             // of codes
};

// A tile of keys and values as the inner loops read it: in the cache itself, or converted to f32 in scratch.
template <class T>
struct KeyTile {
  const T* keys[kTileBlocks];
  const T* values[kTileBlocks];
  TileScales scales;
};

static inline void read_scales(const AttentionOp& op, const CodedHead& block, int b, TileScales& to) {
  const float scale = op.scale / static_cast<float>(head_rotation(op.head_dim));
  for (int i = 0; i < kBlockTokens; i += W) {
    const int j = b * kBlockTokens + i;
    store(to.key_factors + j, set1(scale) * load(block.key_scales + i));
    store(to.value_scales + j, load(block.value_scales + i));
  }
}

template <class T>
static KeyTile<T> cached_tile(const AttentionOp& op, const Step& step, int seq, int kv_head, int64_t first,
                              int64_t count) {
  KeyTile<T> result;
  for (int b = 0; b * kBlockTokens < count; ++b) {
    uint8_t* block = block_address(op, step, seq, first + b * kBlockTokens, kv_head);
    result.keys[b] = reinterpret_cast<const T*>(block);
    result.values[b] = values_of<T>(op, block, 0);
    if constexpr (sizeof(T) == 1)
      read_scales(op, CodedHead(block, op.head_dim), b, result.scales);
    else
      for (int i = 0; i < kBlockTokens; i += W) store(result.scales.key_factors + b * kBlockTokens + i, set1(op.scale));
  }
  return result;
}

template <class T>
static KeyTile<float> converted_tile(const AttentionOp& op, const KeyTile<T>& source, int64_t count, float* keys_f32,
                                     float* values_f32) {
  const int size = kBlockTokens * op.head_dim;
  KeyTile<float> result;
  result.scales = source.scales;
  for (int b = 0; b * kBlockTokens < count; ++b) {
    float* k = keys_f32 + b * size;
    float* v = values_f32 + b * size;
    const int used = static_cast<int>(min64(kBlockTokens, count - b * kBlockTokens)) * op.head_dim;
    for (int i = 0; i < size; i += W) store(k + i, load_any(source.keys[b] + i));
    for (int i = 0; i < used; i += W) store(v + i, load_any(source.values[b] + i));
    result.keys[b] = k;
    result.values[b] = v;
  }
  return result;
}

// The bases of the blocks of keys [first, last), at most 16, as if each were a key of one block: [D][16] in f32, and
// the factors of products with them. The lanes of others are 0.
static void read_bases(const AttentionOp& op, const Step& step, int seq, int kv_head, int64_t split_begin,
                       int64_t first, int64_t last, float* keys, float* factors) {
  static constexpr int8_t kNone[kMaxHeadDim] = {};
  const int D = op.head_dim;
  const int8_t* bases[kBlockTokens];
  for (int b = 0; b < kBlockTokens; ++b) {
    const int64_t position = split_begin + b * kBlockTokens;
    bases[b] = kNone;
    factors[b] = 0.0f;
    if (position < first || position >= last) continue;
    const CodedHead block(block_address(op, step, seq, position, kv_head), D);
    bases[b] = block.base;
    factors[b] = op.scale / static_cast<float>(head_rotation(D)) * *block.base_scale;
  }
  for (int d = 0; d < D; d += W)
    for (int lane = 0; lane < kBlockTokens; lane += W) {
      VF lanes[W];
      for (int i = 0; i < W; ++i) lanes[i] = load_any(bases[lane + i] + d);
      transpose(lanes);
      for (int i = 0; i < W; ++i) store(keys + (d + i) * kBlockTokens + lane, lanes[i]);
    }
}

}  // namespace lepton::LEPTON_ISA
