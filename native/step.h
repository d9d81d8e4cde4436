// What varies from step to step, and the records of the ops that a program runs.
#pragma once

#include <cstdint>

#include "panels.h"
#include "tuning.h"

namespace lepton {

constexpr int kBlockTokens = 16;  // tokens of one KV block
constexpr int kMaxKvGroups = 8;
constexpr int kMaxSegments = 4;

// Row counts of a step.
enum class RowSymbol : int32_t { T, R, S };

// Parameters of the choice of one token: see SamplingInputs in backends/base.py.
struct SamplingRow {
  float temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  int32_t top_k, num_logprobs, history_begin, history_end, num_prompt_tokens, bias_begin, bias_end;
  int32_t forced_id;  // or -1: nothing is chosen, this token is scored
  uint64_t seed, draw;
  const uint32_t* mask;  // or null: a bit for each token that may be chosen
};

// Where a layer's keys and values lie. Blocks come in runs: of a run, the blocks of one head follow each other, so that
// blocks which a request got one after the other are read as one stream.
struct KvLayer {
  uint8_t* data = nullptr;  // its part of run 0
  int64_t run_stride = 0;   // bytes from run to run
  int32_t run_blocks = 1;
  int32_t num_blocks = 0;
};

// Inputs of one step; every array is checked against the limits before the step starts.
struct Step {
  int32_t num_tokens = 0, num_rows = 0, num_seqs = 0;
  const int32_t* token_ids = nullptr;
  const int32_t* positions = nullptr;
  const int32_t* token_type_ids = nullptr;  // or null: all 0
  const int32_t* query_offsets = nullptr;   // [num_seqs + 1]
  const int32_t* kv_lengths = nullptr;      // [num_seqs], after this step
  const int32_t* logit_rows = nullptr;      // [num_rows]
  const int32_t* targets = nullptr;         // [num_rows] or null
  const int32_t* block_tables[kMaxKvGroups] = {};
  int32_t block_table_stride[kMaxKvGroups] = {};
  uint8_t* arena = nullptr;
  const KvLayer* kv_layers = nullptr;
  const SamplingRow* sampling = nullptr;  // [num_rows] or null
  const int32_t* history = nullptr;
  const int32_t* bias_ids = nullptr;
  const float* bias_values = nullptr;
  int32_t num_threads = 1;
  Tuning tuning;

  LEPTON_INLINE int32_t rows(RowSymbol symbol) const {
    return symbol == RowSymbol::T ? num_tokens : symbol == RowSymbol::R ? num_rows : num_seqs;
  }
};

// A buffer of the arena: row r starts at offset + r * stride bytes.
struct Buffer {
  int64_t offset = 0;
  int64_t stride = 0;

  template <class T = float>
  LEPTON_INLINE T* row(const Step& step, int64_t r) const {
    return reinterpret_cast<T*>(step.arena + offset + r * stride);
  }
};

// What an embedding looks up of each token.
enum class IdSource : int32_t { TokenIds, Positions, TokenTypeIds };

struct EmbeddingOp {
  PanelMatrix table;
  IdSource source;
  int32_t first_row;  // that of id 0
  float scale;
  Buffer y;
};

struct RopeTableOp {
  const float* inverse_frequencies;
  int32_t num_frequencies;
  float scale;
  Buffer y;
};

// What a row of a tensor is made of: values; 8-bit groups; two rows of them, the second what the first left over; 8-bit
// blocks of rotated values; 8-bit rotated values that share a scale. See DType in graph/tensor.py.
enum class RowType : int32_t { F32, Q8, Q16, R8, R8Row };

// How many 8-bit rows of x a product reads; 0: x is f32.
using Terms = int32_t;

// y = norm(x [+ residual]); the sum goes to `sum` when there is a residual. With a bias it is a layer norm, whose mean
// is taken off first, else an RMS norm. A row is `num_groups` parts of `size`, normalised separately.
struct NormOp {
  const float* weight;
  const float* bias;  // or null
  int32_t size, num_groups;
  float weight_offset, eps;
  bool has_residual;
  RowType y_type;
  RowSymbol rows;
  Buffer x, residual, sum, y;
};

struct QuantizeOp {
  int32_t size;
  RowType y_type;
  RowSymbol rows;
  Buffer x, y;
};

// Functions of one value: see activate in graph/ops.py.
enum class Activation : int32_t { Silu, Gelu, GeluTanh, Relu, Tanh };

// y_s = x w_s^T + b_s. Activated: y_0 = activation(segment 0) [* segment 1].
struct LinearOp {
  PanelMatrix segments[kMaxSegments];
  Buffer y[kMaxSegments];
  int32_t num_segments;
  Terms terms[kMaxSegments];  // how many 8-bit rows of x each segment multiplies; x may hold more
  bool activated;
  Activation activation;  // of an activated op
  RowType y_type;         // of an activated op
  RowSymbol rows;
  Buffer x;
};

struct RopeOp {
  int32_t num_heads, head_dim, half_rotary;
  bool interleaved;
  Buffer x, table, y;
};

// What the cache holds: values, or codes of 8 or 16 bits. See KVSpec in graph/attrs.py.
enum class KvType : int32_t { F32, F16, BF16, I8, I16 };

// A block of a layer holds, for each KV head, keys [head_dim][16 tokens], then values [16 tokens][head_dim]; of codes,
// what kernels/kv_codes.h says.
struct AttentionOp {
  int32_t num_heads, num_kv_heads, head_dim, half_rotary, layer, group, window;  // window 0: all
  float scale;
  KvType kv_type;
  bool has_rope, interleaved, is_causal, quantize;
  Buffer q, k, v, table, y;
  Buffer partial;  // row t: [num_heads][max_splits] of (maximum, sum, values[head_dim])
  int32_t max_splits;
  // Or null: [num_heads][bias_stride], added to the scores; a distance (key's position less query's) of 0 is at
  // bias_origin. A tile of keys may be read from any distance that a step can have.
  const float* bias;
  int32_t bias_stride, bias_origin;
};

struct AddOp {
  int32_t size;
  RowSymbol rows;
  Buffer a, b, y;
};

// y = kind(x) [* factor].
struct ActivateOp {
  Activation kind;
  int32_t size;
  bool has_factor;
  RowType y_type;
  RowSymbol rows;
  Buffer x, factor, y;
};

struct GatherRowsOp {
  int32_t size;
  Buffer x, y;
};

// The values of PoolMode in graph/attrs.py.
enum class PoolMode : int32_t { Cls, Mean, Max, Last, MeanSqrtLen };

// y has a row for each sequence.
struct PoolOp {
  PoolMode mode;
  int32_t size;
  Buffer x, y;
};

struct L2NormalizeOp {
  int32_t size;
  RowSymbol rows;
  Buffer x, y;
};

// Per row and slice of the vocabulary: maximum, sum of exponentials; then the merge.
struct TokenLogprobOp {
  PanelMatrix head;
  Terms terms;  // of x
  Buffer x, partial, y;
};

struct SampleOp {
  int32_t vocab_size;
  Buffer logits, ids, logprobs, top_ids, top_logprobs;
};

enum class OpKind : int32_t {
  Embedding,
  RopeTable,
  Norm,
  Quantize,
  Linear,
  Rope,
  KvWrite,
  Attend,
  AttendMerge,
  Add,
  Activate,
  GatherRows,
  Pool,
  L2Normalize,
  TokenLogprob,
  TokenLogprobMerge,
  Sample,
};
constexpr int kNumOpKinds = 17;

struct OpRecord {
  OpKind kind;
  bool barrier_before;
  union {
    EmbeddingOp embedding;
    RopeTableOp rope_table;
    NormOp norm;
    QuantizeOp quantize;
    LinearOp linear;
    RopeOp rope;
    AttentionOp attention;
    AddOp add;
    ActivateOp activate;
    GatherRowsOp gather_rows;
    PoolOp pool;
    L2NormalizeOp l2_normalize;
    TokenLogprobOp token_logprob;
    SampleOp sample;
  };

  OpRecord() : kind(OpKind::Add), barrier_before(false), add{} {}
};

// Working memory of one thread.
struct Scratch {
  uint8_t* data;
  int64_t bytes;
};

// Into how many independent pieces a step cuts an op. `by_row`: in the order of rows, many of them, so that a thread
// should take the same part of each op's pieces: what one op wrote of a row is then near when the next one reads it.
struct Chunks {
  int64_t count;
  bool by_row = false;
};

// How a kernel is called: `run` computes one piece.
struct Kernel {
  Chunks (*chunks)(const OpRecord&, const Step&);
  void (*run)(const OpRecord&, const Step&, int64_t chunk, Scratch);
};

// The kernels of one instruction set, and how they are tuned where nothing was measured.
struct KernelTable {
  const char* isa;
  Tuning tuning;
  Kernel kernels[kNumOpKinds];
};

}  // namespace lepton
