// Keys and values out of a cache of values, a tile of keys at a time, as the inner loops of attention read them.

namespace lepton::LEPTON_ISA {

// A tile of keys and values as the inner loops read it: in the cache itself, or converted to f32 in scratch.
template <class T>
struct KeyTile {
  const T* keys[kTileBlocks];
  const T* values[kTileBlocks];
};

template <class T>
static KeyTile<T> cached_tile(const AttentionOp& op, const Step& step, const QueryTile& tile, int64_t first,
                              int64_t count) {
  KeyTile<T> result;
  for (int b = 0; b * kBlockTokens < count; ++b) {
    uint8_t* block = block_address(op, step, tile.seq, first + b * kBlockTokens, tile.kv_head);
    result.keys[b] = reinterpret_cast<const T*>(block);
    result.values[b] = values_of<T>(op, block, 0);
  }
  return result;
}

static KeyTile<float> converted_tile(const AttentionOp& op, const KeyTile<uint16_t>& source, int64_t count,
                                     float* keys_f32, float* values_f32) {
  const int size = kBlockTokens * op.head_dim;
  KeyTile<float> result;
  for (int b = 0; b * kBlockTokens < count; ++b) {
    float* k = keys_f32 + b * size;
    float* v = values_f32 + b * size;
    const int used = static_cast<int>(min64(kBlockTokens, count - b * kBlockTokens)) * op.head_dim;
    for (int i = 0; i < size; i += W) store(k + i, load_half(source.keys[b] + i));
    for (int i = 0; i < used; i += W) store(v + i, load_half(source.values[b] + i));
    result.keys[b] = k;
    result.values[b] = v;
  }
  return result;
}

// The same of pairs.
static KeyTile<float> converted_pairs(const AttentionOp& op, const Step& step, const QueryTile& tile, int64_t first,
                                      int64_t count, float* keys_f32, float* values_f32) {
  const int D = op.head_dim;
  KeyTile<float> result;
  for (int b = 0; b * kBlockTokens < count; ++b) {
    const PairedHead from(block_address(op, step, tile.seq, first + b * kBlockTokens, tile.kv_head), D);
    float* k = keys_f32 + b * kBlockTokens * D;
    float* v = values_f32 + b * kBlockTokens * D;
    for (int d = 0; d < D; ++d)
      for (int slot = 0; slot < kBlockTokens; ++slot) {
        k[d * kBlockTokens + slot] = from_bf16(from.key(slot, d));
        v[slot * D + d] = from_bf16(from.value(slot, d));
      }
    result.keys[b] = k;
    result.values[b] = v;
  }
  return result;
}

}  // namespace lepton::LEPTON_ISA
