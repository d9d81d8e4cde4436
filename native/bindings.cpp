// The Python module lepton_ai.backends.cpu._native: device, packing, programs.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>

#include "encoder.h"
#include "measure.h"
#include "pack.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace lepton {

void bind_encoder(nb::module_& m);
void bind_mapped_panels(nb::module_& m);

namespace {

template <class T>
using Vector = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Bytes = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Table = nb::ndarray<const int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

[[noreturn]] void reject(const char* name, const std::string& problem) {
  throw std::invalid_argument(std::string(name) + ": " + problem);
}

const KernelTable& kernels_of(const std::string& isa) {
  const KernelTable* kernels = find_kernels(isa);
  if (!kernels) reject("isa", "this machine or build has no kernels for " + isa);
  return *kernels;
}

// Threads and kernels; shared by all programs of a process.
struct CpuDevice {
  CpuDevice(int num_threads, const std::string& isa_name, int64_t scratch_bytes, const Tuning& tuning_)
      : isa(isa_name), kernels(&kernels_of(isa_name)), tuning(tuning_), pool(num_threads, scratch_bytes) {
    if ((tuning.min_tile_rows == 0) != (kernels->tuning.min_tile_rows == 0))
      reject("min_tile_rows", "expected 0 where there are no tiles, and only there");
  }
  std::string isa;
  const KernelTable* kernels;
  Tuning tuning;
  ThreadPool pool;
};

// What kernels need to stay within their buffers; Python says what else is of use.
Tuning checked_tuning(const Tuning& tuning) {
  if (tuning.row_block < kMinRowBlock || tuning.row_block > kMaxRowBlock) reject("row_block", "outside its bounds");
  if (tuning.min_tile_rows < 0 || (tuning.min_tile_rows > 0 && tuning.min_tile_rows < kRowsOfTile))
    reject("min_tile_rows", "fewer than a tile has");
  if (tuning.first_eighths < 0 || tuning.first_eighths > 8) reject("first_eighths", "more than there are");
  if (tuning.rest_chunks < 1) reject("rest_chunks", "expected some");
  if (tuning.prefetch_bytes < 0) reject("prefetch_bytes", "expected none or some");
  return tuning;
}

void check_range(const char* name, const int32_t* values, size_t count, int64_t limit) {
  for (size_t i = 0; i < count; ++i)
    if (values[i] < 0 || values[i] >= limit)
      reject(name, "value " + std::to_string(values[i]) + " at " + std::to_string(i) + " is outside [0, " +
                       std::to_string(limit) + ")");
}

// The arrays of SamplingInputs in the order of its fields.
using SamplingArrays = std::tuple<Vector<float>, Vector<int32_t>, Vector<float>, Vector<float>, Vector<float>,
                                  Vector<float>, Vector<float>, Vector<uint64_t>, Vector<uint64_t>, Vector<int32_t>,
                                  Vector<int32_t>, Vector<int32_t>, Vector<int32_t>, Vector<int32_t>, Vector<float>,
                                  Vector<int32_t>, Vector<int32_t>, Table, Vector<int32_t>>;

// The arrays of StepInputs. They may be written between steps, so what they hold is checked in each.
struct StepArrays {
  Vector<int32_t> token_ids, positions, query_offsets, kv_lengths;
  std::vector<Table> block_tables;
  Vector<int32_t> logit_rows;
  std::optional<Vector<int32_t>> targets, token_type_ids;
  std::optional<SamplingArrays> sampling;
};

// Where the layers of a KV cache lie: each layer's part of its first run of blocks, the bytes from run to run, the
// blocks of a run, and how many there are.
struct KVBlocks {
  KVBlocks(const std::vector<uintptr_t>& addresses, const std::vector<int64_t>& strides,
           const std::vector<int32_t>& run_blocks, const std::vector<int32_t>& num_blocks) {
    if (strides.size() != addresses.size()) reject("strides", "expected one for each layer");
    if (run_blocks.size() != addresses.size()) reject("run_blocks", "expected one for each layer");
    if (num_blocks.size() != addresses.size()) reject("num_blocks", "expected one for each layer");
    for (size_t i = 0; i < addresses.size(); ++i) {
      if (run_blocks[i] < 1) reject("run_blocks", "expected some");
      layers.push_back({reinterpret_cast<uint8_t*>(addresses[i]), strides[i], run_blocks[i], num_blocks[i]});
    }
  }
  std::vector<KvLayer> layers;
};

class BoundProgram {
 public:
  BoundProgram(CpuDevice& device, Encoder& encoder, std::tuple<int32_t, int32_t, int32_t, int32_t, int32_t> limits,
               Bytes arena)
      : device_(device),
        arena_(std::move(arena)),
        limits_{std::get<0>(limits), std::get<1>(limits), std::get<2>(limits), std::get<3>(limits),
                std::get<4>(limits)},
        program_(encoder.take(), device.kernels, device.pool.num_threads()) {
    sampling_.resize(limits_.max_rows);
    for (int64_t i = 0; i < program_.size(); ++i) {
      const OpRecord& op = program_.op(i);
      if (op.kind == OpKind::Embedding) {
        int32_t& known = num_ids_[static_cast<int>(op.embedding.source)];
        known = std::min(known, op.embedding.table.num_outputs - op.embedding.first_row);
      }
      needs_targets_ |= op.kind == OpKind::TokenLogprob;
      if (op.kind == OpKind::Attend) {
        num_kv_groups_ = std::max(num_kv_groups_, op.attention.group + 1);
        num_kv_layers_ = std::max(num_kv_layers_, op.attention.layer + 1);
        kv_layers_.emplace_back(op.attention.group, op.attention.layer);
      }
    }
  }

  void run(const StepArrays& arrays, const KVBlocks& cache) {
    Step step;
    if (cache.layers.size() < static_cast<size_t>(num_kv_layers_))
      reject("kv_layers", "the cache has " + std::to_string(cache.layers.size()) + " layers, the program " +
                              std::to_string(num_kv_layers_));
    fill(arrays, cache, step);
    step.arena = arena_.data();
    step.kv_layers = cache.layers.data();
    step.num_threads = device_.pool.num_threads();
    step.tuning = device_.tuning;
    if (arrays.sampling) fill_sampling(*arrays.sampling, step);
    const nb::gil_scoped_release release;
    program_.run(device_.pool, step);
  }

  void set_matrix(int64_t index, int64_t segment, const MatrixArgs& matrix) {
    OpRecord& op = program_.op(index);
    if (op.kind == OpKind::Embedding)
      op.embedding.table = matrix.matrix();
    else if (op.kind == OpKind::TokenLogprob || op.kind == OpKind::TokenLogprobMerge)
      op.token_logprob.head = matrix.matrix();
    else if (op.kind == OpKind::Linear && segment >= 0 && segment < op.linear.num_segments)
      op.linear.segments[segment] = matrix.matrix();
    else
      reject("index", "op " + std::to_string(index) + " has no matrix " + std::to_string(segment));
  }

  std::vector<double> take_seconds() { return program_.take_seconds(); }
  std::vector<std::tuple<double, double>> take_op_seconds() {
    std::vector<std::tuple<double, double>> taken;
    for (const OpSeconds& op : program_.take_op_seconds()) taken.emplace_back(op.waiting, op.working);
    return taken;
  }
  void set_timing(bool enabled) { program_.set_timing(enabled); }

 private:
  int32_t known_ids(IdSource source) const { return num_ids_[static_cast<int>(source)]; }

  // Blocks that every layer of each group has; there are at most kMaxKvGroups.
  std::array<int32_t, kMaxKvGroups> blocks_of_groups(const KVBlocks& cache) const {
    std::array<int32_t, kMaxKvGroups> counts;
    counts.fill(std::numeric_limits<int32_t>::max());
    for (const auto& [group, layer] : kv_layers_)
      counts[group] = std::min(counts[group], cache.layers[layer].num_blocks);
    return counts;
  }

  void fill(const StepArrays& a, const KVBlocks& cache, Step& step) const {
    const size_t tokens = a.token_ids.size(), seqs = a.kv_lengths.size(), rows = a.logit_rows.size();
    if (tokens < 1 || tokens > static_cast<size_t>(limits_.max_tokens))
      reject("token_ids", "length " + std::to_string(tokens) + " is outside the plan's limits");
    if (seqs < 1 || seqs > static_cast<size_t>(limits_.max_seqs))
      reject("kv_lengths", "length " + std::to_string(seqs) + " is outside the plan's limits");
    if (rows > static_cast<size_t>(limits_.max_rows))
      reject("logit_rows", "length " + std::to_string(rows) + " is outside the plan's limits");
    if (a.positions.size() != tokens) reject("positions", "expected one for each token");
    if (a.query_offsets.size() != seqs + 1) reject("query_offsets", "expected one more than sequences");
    const int32_t* offsets = a.query_offsets.data();
    if (offsets[0] != 0 || offsets[seqs] != static_cast<int32_t>(tokens))
      reject("query_offsets", "expected to cover all tokens");
    if (a.block_tables.size() > kMaxKvGroups) reject("block_tables", "more KV groups than supported");
    if (a.block_tables.size() < static_cast<size_t>(num_kv_groups_))
      reject("block_tables", "expected one for each KV group");
    const auto num_blocks = blocks_of_groups(cache);
    for (size_t s = 0; s < seqs; ++s) {
      if (offsets[s + 1] <= offsets[s]) reject("query_offsets", "expected to ascend");
      if (a.kv_lengths.data()[s] < offsets[s + 1] - offsets[s]) reject("kv_lengths", "shorter than the step's tokens");
      if (a.kv_lengths.data()[s] > limits_.max_model_len) reject("kv_lengths", "longer than the plan's limit");
      for (int32_t g = 0; g < num_kv_groups_; ++g) {  // nobody reads a table beyond
        const Table& table = a.block_tables[g];
        const int64_t used = (a.kv_lengths.data()[s] + kBlockTokens - 1) / kBlockTokens;
        if (table.shape(0) < seqs || static_cast<int64_t>(table.shape(1)) < used)
          reject("block_tables", "too small for kv_lengths");
        check_range("block_tables", table.data() + s * table.shape(1), used, num_blocks[g]);
      }
    }
    check_range("token_ids", a.token_ids.data(), tokens, std::min(limits_.vocab_size, known_ids(IdSource::TokenIds)));
    if (known_ids(IdSource::Positions) < kAnyId)
      check_range("positions", a.positions.data(), tokens, known_ids(IdSource::Positions));
    if (a.token_type_ids) {
      if (a.token_type_ids->size() != tokens) reject("token_type_ids", "expected one for each token");
      check_range("token_type_ids", a.token_type_ids->data(), tokens, known_ids(IdSource::TokenTypeIds));
      step.token_type_ids = a.token_type_ids->data();
    }
    check_range("logit_rows", a.logit_rows.data(), rows, tokens);
    if (needs_targets_ && !a.targets) reject("targets", "the program scores them, but the step gives none");
    if (a.targets) {
      if (a.targets->size() != rows) reject("targets", "expected one for each row");
      check_range("targets", a.targets->data(), rows, limits_.vocab_size);
      step.targets = a.targets->data();
    }
    step.num_tokens = static_cast<int32_t>(tokens);
    step.num_rows = static_cast<int32_t>(rows);
    step.num_seqs = static_cast<int32_t>(seqs);
    step.token_ids = a.token_ids.data();
    step.positions = a.positions.data();
    step.query_offsets = offsets;
    step.kv_lengths = a.kv_lengths.data();
    step.logit_rows = a.logit_rows.data();
    for (size_t g = 0; g < a.block_tables.size(); ++g) {
      step.block_tables[g] = a.block_tables[g].data();
      step.block_table_stride[g] = static_cast<int32_t>(a.block_tables[g].shape(1));
    }
  }

  void fill_sampling(const SamplingArrays& s, Step& step) {
    const auto& [temperature, top_k, top_p, min_p, repetition, presence, frequency, seeds, draws, num_logprobs, history,
                 history_offsets, num_prompt_tokens, bias_ids, bias_values, bias_offsets, mask_rows, token_masks,
                 forced_ids] = s;
    const size_t rows = step.num_rows;
    for (const size_t size : {temperature.size(), top_k.size(), top_p.size(), min_p.size(), repetition.size(),
                              presence.size(), frequency.size(), seeds.size(), draws.size(), num_logprobs.size(),
                              num_prompt_tokens.size(), mask_rows.size(), forced_ids.size()})
      if (size != rows) reject("sampling", "expected one entry for each row");
    check_runs("history", history, history_offsets, rows);
    check_runs("bias", bias_ids, bias_offsets, rows);
    if (bias_values.size() != bias_ids.size()) reject("bias_values", "expected one for each of bias_ids");
    const size_t words = (limits_.vocab_size + 31) / 32;
    if (token_masks.shape(0) && token_masks.shape(1) != words) reject("token_masks", "expected a bit for each token");
    for (size_t r = 0; r < rows; ++r) {
      const int32_t begin = history_offsets.data()[r], end = history_offsets.data()[r + 1];
      if (num_prompt_tokens.data()[r] < 0 || num_prompt_tokens.data()[r] > end - begin)
        reject("num_prompt_tokens", "row " + std::to_string(r) + " is malformed");
      if (num_logprobs.data()[r] < 0) reject("num_logprobs", "row " + std::to_string(r) + " asks for fewer than none");
      const int32_t mask = mask_rows.data()[r];
      if (mask < -1 || mask >= static_cast<int64_t>(token_masks.shape(0)))
        reject("mask_rows", "row " + std::to_string(r) + " names a mask that is not there");
      if (forced_ids.data()[r] < -1 || forced_ids.data()[r] >= limits_.vocab_size)
        reject("forced_ids", "row " + std::to_string(r) + " names a token that is not there");
      SamplingRow& row = sampling_[r];
      row = {};
      row.temperature = temperature.data()[r];
      row.top_p = top_p.data()[r];
      row.min_p = min_p.data()[r];
      row.repetition_penalty = repetition.data()[r];
      row.presence_penalty = presence.data()[r];
      row.frequency_penalty = frequency.data()[r];
      row.top_k = top_k.data()[r];
      row.num_logprobs = num_logprobs.data()[r];
      row.history_begin = begin;
      row.history_end = end;
      row.num_prompt_tokens = num_prompt_tokens.data()[r];
      row.bias_begin = bias_offsets.data()[r];
      row.bias_end = bias_offsets.data()[r + 1];
      row.forced_id = forced_ids.data()[r];
      row.seed = seeds.data()[r];
      row.draw = draws.data()[r];
      if (mask >= 0) row.mask = reinterpret_cast<const uint32_t*>(token_masks.data()) + mask * words;
    }
    step.sampling = sampling_.data();
    step.history = history.data();
    step.bias_ids = bias_ids.data();
    step.bias_values = bias_values.data();
  }

  // Runs of token ids, one for each row, end to end.
  void check_runs(const std::string& name, const Vector<int32_t>& ids, const Vector<int32_t>& offsets,
                  size_t rows) const {
    if (offsets.size() != rows + 1) reject((name + "_offsets").c_str(), "expected one more than rows");
    check_range((name + "_offsets").c_str(), offsets.data(), rows + 1, static_cast<int64_t>(ids.size()) + 1);
    check_range(name.c_str(), ids.data(), ids.size(), limits_.vocab_size);
    for (size_t r = 0; r < rows; ++r)
      if (offsets.data()[r + 1] < offsets.data()[r])
        reject((name + "_offsets").c_str(), "row " + std::to_string(r) + " is malformed");
  }

  CpuDevice& device_;
  Bytes arena_;
  ProgramLimits limits_;
  Program program_;
  bool needs_targets_ = false;
  static constexpr int32_t kAnyId = std::numeric_limits<int32_t>::max();
  int32_t num_ids_[3] = {kAnyId, kAnyId, kAnyId};  // by IdSource: those that the smallest table has rows for
  int32_t num_kv_groups_ = 0, num_kv_layers_ = 0;
  std::vector<std::pair<int32_t, int32_t>> kv_layers_;  // group and layer of each attention
  std::vector<SamplingRow> sampling_;
};

void pack(CpuDevice& device, const std::string& type_name, const std::string& narrowing, Vector<uint8_t> source,
          int64_t num_outputs, int64_t num_inputs, Bytes target) {
  const StorageType type = parse_storage_type(type_name);
  const PanelKind kind = kind_for(type, parse_narrowing(narrowing));
  if (is_rotated(kind) && num_inputs % kRotation) reject("num_inputs", "no multiple of 128 to rotate");
  if (kind == PanelKind::R8Row && num_inputs > kMaxRotatedRow) reject("num_inputs", "sums of so many codes overflow");
  const int64_t each = panel_bytes(kind, num_inputs), count = num_panels(num_outputs);
  if (static_cast<int64_t>(source.size()) != storage_row_bytes(type, num_inputs) * num_outputs)
    reject("source", "length does not fit the shape");
  if (static_cast<int64_t>(target.size()) != each * count) reject("target", "length does not fit the shape");
  const nb::gil_scoped_release release;
  parallel_for(device.pool, count, [&](int64_t i) {
    pack_panel(type, kind, source.data(), num_outputs, num_inputs, i, target.data() + i * each);
  });
}

}  // namespace

NB_MODULE(_native, m) {
  m.attr("BLOCK_TOKENS") = kBlockTokens;
  m.attr("LAYOUT_VERSION") = "panels-2";
  m.def("available_isas", &available_isas, "Instruction sets that this machine can run, best first.");
  m.def(
      "panel_kind",
      [](const std::string& type, const std::string& narrowing) {
        return static_cast<int>(kind_for(parse_storage_type(type), parse_narrowing(narrowing)));
      },
      "type"_a, nb::kw_only(), "narrowing"_a);
  m.def(
      "matrix_bytes",
      [](int kind, int64_t num_outputs, int64_t num_inputs) {
        if (kind < 0 || kind >= kNumPanelKinds) reject("kind", "unknown panel kind");
        return panel_bytes(static_cast<PanelKind>(kind), num_inputs) * num_panels(num_outputs);
      },
      "kind"_a, "num_outputs"_a, "num_inputs"_a);
  m.def("pack", &pack, "device"_a, nb::kw_only(), "type"_a, "narrowing"_a, "source"_a, "num_outputs"_a, "num_inputs"_a,
        "target"_a);
  nb::class_<Tuning>(m, "Tuning")
      .def(
          "__init__",
          [](Tuning* at, int32_t prefetch_bytes, int32_t row_block, int32_t min_tile_rows, int32_t first_eighths,
             int32_t rest_chunks) {
            new (at) Tuning(checked_tuning({prefetch_bytes, row_block, min_tile_rows, first_eighths, rest_chunks}));
          },
          nb::kw_only(), "prefetch_bytes"_a, "row_block"_a, "min_tile_rows"_a, "first_eighths"_a, "rest_chunks"_a)
      .def_ro("prefetch_bytes", &Tuning::prefetch_bytes)
      .def_ro("row_block", &Tuning::row_block)
      .def_ro("min_tile_rows", &Tuning::min_tile_rows)
      .def_ro("first_eighths", &Tuning::first_eighths)
      .def_ro("rest_chunks", &Tuning::rest_chunks);
  m.def(
      "default_tuning", [](const std::string& isa) { return kernels_of(isa).tuning; }, "isa"_a,
      "How the kernels of an instruction set are tuned where nothing was measured.");
  nb::class_<CpuDevice>(m, "CpuDevice")
      .def(nb::init<int, const std::string&, int64_t, const Tuning&>(), nb::kw_only(), "num_threads"_a, "isa"_a,
           "scratch_bytes"_a, "tuning"_a)
      .def_ro("isa", &CpuDevice::isa)
      .def_prop_ro("num_threads", [](const CpuDevice& d) { return d.pool.num_threads(); })
      .def(
          "reserve_scratch", [](CpuDevice& d, int64_t bytes) { d.pool.reserve_scratch(bytes); }, "num_bytes"_a)
      .def(
          "measure_read_bandwidth", [](CpuDevice& d, int64_t bytes) { return measure_read_bandwidth(d.pool, bytes); },
          "num_bytes"_a, nb::call_guard<nb::gil_scoped_release>());
  nb::class_<StepArrays>(m, "StepArrays")
      .def(nb::init<Vector<int32_t>, Vector<int32_t>, Vector<int32_t>, Vector<int32_t>, std::vector<Table>,
                    Vector<int32_t>, std::optional<Vector<int32_t>>, std::optional<Vector<int32_t>>,
                    std::optional<SamplingArrays>>(),
           "token_ids"_a, "positions"_a, "query_offsets"_a, "kv_lengths"_a, "block_tables"_a, "logit_rows"_a,
           "targets"_a.none(), "token_type_ids"_a.none(), "sampling"_a.none());
  nb::class_<KVBlocks>(m, "KVBlocks")
      .def(nb::init<const std::vector<uintptr_t>&, const std::vector<int64_t>&, const std::vector<int32_t>&,
                    const std::vector<int32_t>&>(),
           nb::kw_only(), "addresses"_a, "strides"_a, "run_blocks"_a, "num_blocks"_a);
  nb::class_<BoundProgram>(m, "Program")
      .def(nb::init<CpuDevice&, Encoder&, std::tuple<int32_t, int32_t, int32_t, int32_t, int32_t>, Bytes>(),
           nb::keep_alive<1, 2>(), "device"_a, "encoder"_a, "limits"_a, "arena"_a)
      .def("run", &BoundProgram::run, "step"_a, "cache"_a)
      .def("set_matrix", &BoundProgram::set_matrix, "index"_a, "segment"_a, "matrix"_a)
      .def("take_seconds", &BoundProgram::take_seconds)
      .def("take_op_seconds", &BoundProgram::take_op_seconds)
      .def("set_timing", &BoundProgram::set_timing, "enabled"_a);
  bind_encoder(m);
  bind_mapped_panels(m);
}

}  // namespace lepton
