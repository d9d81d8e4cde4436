// Python's view of the encoder: one method per op record.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>

#include "encoder.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace lepton {

namespace {

// The values of Activation in graph/attrs.py.
Activation parse_activation(const std::string& name) {
  if (name == "silu") return Activation::Silu;
  if (name == "gelu") return Activation::Gelu;
  if (name == "gelu_tanh") return Activation::GeluTanh;
  if (name == "relu") return Activation::Relu;
  if (name == "tanh") return Activation::Tanh;
  throw std::invalid_argument("kind: no activation is called " + name);
}

// The values of PoolMode in graph/attrs.py.
PoolMode parse_pool_mode(const std::string& name) {
  if (name == "cls") return PoolMode::Cls;
  if (name == "mean") return PoolMode::Mean;
  if (name == "max") return PoolMode::Max;
  if (name == "last") return PoolMode::Last;
  if (name == "mean_sqrt_len") return PoolMode::MeanSqrtLen;
  throw std::invalid_argument("mode: no pooling is called " + name);
}

IdSource parse_id_source(const std::string& name) {
  if (name == "token_ids") return IdSource::TokenIds;
  if (name == "positions") return IdSource::Positions;
  if (name == "token_type_ids") return IdSource::TokenTypeIds;
  throw std::invalid_argument("source: expected token_ids, positions or token_type_ids, got " + name);
}

// The values of DType in graph/tensor.py.
RowType parse_row_type(const std::string& name) {
  if (name == "f32") return RowType::F32;
  if (name == "q8") return RowType::Q8;
  if (name == "q16") return RowType::Q16;
  if (name == "r8") return RowType::R8;
  if (name == "r8row") return RowType::R8Row;
  throw std::invalid_argument("y_type: expected f32, q8, q16, r8 or r8row, got " + name);
}

// The values of DType in graph/tensor.py.
KvType parse_kv_type(const std::string& name) {
  if (name == "f32") return KvType::F32;
  if (name == "f16") return KvType::F16;
  if (name == "bf16") return KvType::BF16;
  if (name == "int8") return KvType::I8;
  if (name == "int16") return KvType::I16;
  throw std::invalid_argument("kv_type: expected f32, f16, bf16, int8 or int16, got " + name);
}

RowSymbol row_symbol(const std::string& name) {
  if (name == "T") return RowSymbol::T;
  if (name == "R") return RowSymbol::R;
  if (name == "S") return RowSymbol::S;
  throw std::invalid_argument("rows: expected T, R or S, got " + name);
}

void add_linear(Encoder& encoder, bool barrier, const std::vector<MatrixArgs>& segments, const std::vector<Place>& y,
                Place x, const std::vector<Terms>& terms, const std::optional<std::string>& activation,
                const std::string& y_type, const std::string& rows) {
  if (segments.empty() || segments.size() > kMaxSegments || terms.size() != segments.size() ||
      y.size() != (activation ? 1 : segments.size()) || (activation && segments.size() > 2))
    throw std::invalid_argument("linear: expected 1 to 4 segments with an output each, or 1 or 2 that make one");
  LinearOp op{};
  for (size_t s = 0; s < segments.size(); ++s) {
    op.segments[s] = segments[s].matrix();
    op.terms[s] = terms[s];
    if (s < y.size()) op.y[s] = to_buffer(y[s]);
  }
  op.num_segments = static_cast<int32_t>(segments.size());
  op.activated = activation.has_value();
  if (activation) op.activation = parse_activation(*activation);
  op.y_type = parse_row_type(y_type);
  op.rows = row_symbol(rows);
  op.x = to_buffer(x);
  encoder.add(OpKind::Linear, barrier).linear = op;
}

void add_activate(Encoder& encoder, bool barrier, const std::string& kind, int32_t size, Place x,
                  std::optional<Place> factor, Place y, const std::string& y_type, const std::string& rows) {
  ActivateOp op{};
  op.kind = parse_activation(kind);
  op.size = size;
  op.has_factor = factor.has_value();
  op.y_type = parse_row_type(y_type);
  op.rows = row_symbol(rows);
  op.x = to_buffer(x);
  if (factor) op.factor = to_buffer(*factor);
  op.y = to_buffer(y);
  encoder.add(OpKind::Activate, barrier).activate = op;
}

void add_norm(Encoder& encoder, bool barrier, std::pair<uintptr_t, uintptr_t> weight_and_bias, int32_t size,
              int32_t num_groups, float weight_offset, float eps, Place x, std::pair<Place, Place> residual_and_sum,
              bool has_residual, Place y, const std::string& y_type, const std::string& rows) {
  NormOp op{};
  op.weight = reinterpret_cast<const float*>(weight_and_bias.first);
  op.bias = reinterpret_cast<const float*>(weight_and_bias.second);
  op.size = size;
  op.num_groups = num_groups;
  op.weight_offset = weight_offset;
  op.eps = eps;
  op.has_residual = has_residual;
  op.y_type = parse_row_type(y_type);
  op.rows = row_symbol(rows);
  op.x = to_buffer(x);
  op.residual = to_buffer(residual_and_sum.first);
  op.sum = to_buffer(residual_and_sum.second);
  op.y = to_buffer(y);
  encoder.add(OpKind::Norm, barrier).norm = op;
}

struct AttentionArgs {
  int32_t num_heads, num_kv_heads, head_dim, rotary_dim, layer, group, window, max_splits;
  float scale;
  KvType kv_type;
  bool interleaved, is_causal, quantize;
};

// The address of the expanded biases, and their stride and origin: see AttentionOp.
using BiasArgs = std::tuple<uintptr_t, int32_t, int32_t>;

void add_attention(Encoder& encoder, bool barrier, const AttentionArgs& args, const std::vector<Place>& qkv,
                   Place table, Place y, Place partial, std::optional<BiasArgs> bias) {
  if (qkv.size() != 3) throw std::invalid_argument("attention: expected three inputs");
  AttentionOp op{};
  op.num_heads = args.num_heads;
  op.num_kv_heads = args.num_kv_heads;
  op.head_dim = args.head_dim;
  op.half_rotary = args.rotary_dim / 2;
  op.layer = args.layer;
  op.group = args.group;
  op.window = args.window;
  op.max_splits = args.max_splits;
  op.scale = args.scale;
  op.has_rope = args.rotary_dim > 0;
  op.kv_type = args.kv_type;
  op.interleaved = args.interleaved;
  op.is_causal = args.is_causal;
  op.quantize = args.quantize;
  op.q = to_buffer(qkv[0]);
  op.k = to_buffer(qkv[1]);
  op.v = to_buffer(qkv[2]);
  op.table = to_buffer(table);
  op.y = to_buffer(y);
  op.partial = to_buffer(partial);
  if (bias) {
    op.bias = reinterpret_cast<const float*>(std::get<0>(*bias));
    op.bias_stride = std::get<1>(*bias);
    op.bias_origin = std::get<2>(*bias);
  }
  encoder.add(OpKind::KvWrite, barrier).attention = op;
  encoder.add(OpKind::Attend, true).attention = op;
  encoder.add(OpKind::AttendMerge, true).attention = op;
}

}  // namespace

void bind_encoder(nb::module_& m) {
  nb::class_<MatrixArgs>(m, "Matrix")
      .def(
          "__init__",
          [](MatrixArgs* self, uintptr_t data, int32_t kind, int32_t num_outputs, int32_t num_inputs, uintptr_t bias) {
            new (self) MatrixArgs{data, kind, num_outputs, num_inputs, bias};
          },
          nb::kw_only(), "data"_a, "kind"_a, "num_outputs"_a, "num_inputs"_a, "bias"_a);
  nb::class_<AttentionArgs>(m, "AttentionArgs")
      .def(
          "__init__",
          [](AttentionArgs* self, int32_t num_heads, int32_t num_kv_heads, int32_t head_dim, int32_t rotary_dim,
             int32_t layer, int32_t group, int32_t window, int32_t max_splits, float scale, const std::string& kv_type,
             bool interleaved, bool is_causal, bool quantize) {
            new (self) AttentionArgs{num_heads,   num_kv_heads, head_dim,   rotary_dim, layer,
                                     group,       window,       max_splits, scale,      parse_kv_type(kv_type),
                                     interleaved, is_causal,    quantize};
          },
          nb::kw_only(), "num_heads"_a, "num_kv_heads"_a, "head_dim"_a, "rotary_dim"_a, "layer"_a, "group"_a,
          "window"_a, "max_splits"_a, "scale"_a, "kv_type"_a, "interleaved"_a, "is_causal"_a, "quantize"_a);
  nb::class_<Encoder>(m, "Encoder")
      .def(nb::init<>())
      .def("__len__", &Encoder::size)
      .def(
          "embedding",
          [](Encoder& e, bool barrier, const MatrixArgs& table, const std::string& source, int32_t first_row,
             float scale, Place y) {
            e.add(OpKind::Embedding, barrier).embedding = {table.matrix(), parse_id_source(source), first_row, scale,
                                                           to_buffer(y)};
          },
          "barrier"_a, nb::kw_only(), "table"_a, "source"_a, "first_row"_a, "scale"_a, "y"_a)
      .def(
          "rope_table",
          [](Encoder& e, bool barrier, uintptr_t frequencies, int32_t num_frequencies, float scale, Place y) {
            e.add(OpKind::RopeTable, barrier).rope_table = {reinterpret_cast<const float*>(frequencies),
                                                            num_frequencies, scale, to_buffer(y)};
          },
          "barrier"_a, nb::kw_only(), "frequencies"_a, "num_frequencies"_a, "scale"_a, "y"_a)
      .def("norm", &add_norm, "barrier"_a, nb::kw_only(), "weight_and_bias"_a, "size"_a, "num_groups"_a,
           "weight_offset"_a, "eps"_a, "x"_a, "residual_and_sum"_a, "has_residual"_a, "y"_a, "y_type"_a, "rows"_a)
      .def(
          "quantize",
          [](Encoder& e, bool barrier, int32_t size, Place x, Place y, const std::string& y_type,
             const std::string& rows) {
            e.add(OpKind::Quantize, barrier).quantize = {size, parse_row_type(y_type), row_symbol(rows), to_buffer(x),
                                                         to_buffer(y)};
          },
          "barrier"_a, nb::kw_only(), "size"_a, "x"_a, "y"_a, "y_type"_a, "rows"_a)
      .def("linear", &add_linear, "barrier"_a, nb::kw_only(), "segments"_a, "y"_a, "x"_a, "terms"_a,
           "activation"_a.none(), "y_type"_a, "rows"_a)
      .def(
          "rope",
          [](Encoder& e, bool barrier, int32_t num_heads, int32_t head_dim, int32_t rotary_dim, bool interleaved,
             Place x, Place table, Place y) {
            e.add(OpKind::Rope, barrier).rope = {num_heads,    head_dim,         rotary_dim / 2, interleaved,
                                                 to_buffer(x), to_buffer(table), to_buffer(y)};
          },
          "barrier"_a, nb::kw_only(), "num_heads"_a, "head_dim"_a, "rotary_dim"_a, "interleaved"_a, "x"_a, "table"_a,
          "y"_a)
      .def("attention", &add_attention, "barrier"_a, nb::kw_only(), "args"_a, "qkv"_a, "table"_a, "y"_a, "partial"_a,
           "bias"_a.none())
      .def(
          "add",
          [](Encoder& e, bool barrier, int32_t size, Place a, Place b, Place y, const std::string& rows) {
            e.add(OpKind::Add, barrier).add = {size, row_symbol(rows), to_buffer(a), to_buffer(b), to_buffer(y)};
          },
          "barrier"_a, nb::kw_only(), "size"_a, "a"_a, "b"_a, "y"_a, "rows"_a)
      .def("activate", &add_activate, "barrier"_a, nb::kw_only(), "kind"_a, "size"_a, "x"_a, "factor"_a.none(), "y"_a,
           "y_type"_a, "rows"_a)
      .def(
          "gather_rows",
          [](Encoder& e, bool barrier, int32_t size, Place x, Place y) {
            e.add(OpKind::GatherRows, barrier).gather_rows = {size, to_buffer(x), to_buffer(y)};
          },
          "barrier"_a, nb::kw_only(), "size"_a, "x"_a, "y"_a)
      .def(
          "pool",
          [](Encoder& e, bool barrier, const std::string& mode, int32_t size, Place x, Place y) {
            e.add(OpKind::Pool, barrier).pool = {parse_pool_mode(mode), size, to_buffer(x), to_buffer(y)};
          },
          "barrier"_a, nb::kw_only(), "mode"_a, "size"_a, "x"_a, "y"_a)
      .def(
          "l2_normalize",
          [](Encoder& e, bool barrier, int32_t size, Place x, Place y, const std::string& rows) {
            e.add(OpKind::L2Normalize, barrier).l2_normalize = {size, row_symbol(rows), to_buffer(x), to_buffer(y)};
          },
          "barrier"_a, nb::kw_only(), "size"_a, "x"_a, "y"_a, "rows"_a)
      .def(
          "token_logprob",
          [](Encoder& e, bool barrier, const MatrixArgs& head, Terms terms, Place x, Place partial, Place y) {
            const TokenLogprobOp op{head.matrix(), terms, to_buffer(x), to_buffer(partial), to_buffer(y)};
            e.add(OpKind::TokenLogprob, barrier).token_logprob = op;
            e.add(OpKind::TokenLogprobMerge, true).token_logprob = op;
          },
          "barrier"_a, nb::kw_only(), "head"_a, "terms"_a, "x"_a, "partial"_a, "y"_a)
      .def(
          "sample",
          [](Encoder& e, bool barrier, int32_t vocab_size, Place logits, Place ids, Place logprobs, Place top_ids,
             Place top_logprobs) {
            e.add(OpKind::Sample, barrier).sample = {vocab_size,          to_buffer(logits),  to_buffer(ids),
                                                     to_buffer(logprobs), to_buffer(top_ids), to_buffer(top_logprobs)};
          },
          "barrier"_a, nb::kw_only(), "vocab_size"_a, "logits"_a, "ids"_a, "logprobs"_a, "top_ids"_a, "top_logprobs"_a);
}

}  // namespace lepton
