// Builds a program record by record; what Python calls, one method per op.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "program.h"

namespace lepton {

using Place = std::pair<int64_t, int64_t>;  // (offset, row stride) of a tensor in the arena, in bytes

inline Buffer to_buffer(const Place& place) { return {place.first, place.second}; }

// A matrix as Python names it: address of its panels, kind, outputs, inputs, address of its bias or 0.
struct MatrixArgs {
  uintptr_t data;
  int32_t kind;
  int32_t num_outputs, num_inputs;
  uintptr_t bias;

  PanelMatrix matrix() const {
    return {reinterpret_cast<const uint8_t*>(data), reinterpret_cast<const float*>(bias), num_outputs, num_inputs,
            static_cast<PanelKind>(kind)};
  }
};

// What a step may hold, checked before it runs.
struct ProgramLimits {
  int32_t max_tokens, max_rows, max_seqs, max_model_len, vocab_size;
};

class Encoder {
 public:
  OpRecord& add(OpKind kind, bool barrier_before) {
    OpRecord& op = ops_.emplace_back();
    op.kind = kind;
    op.barrier_before = barrier_before;
    return op;
  }
  std::vector<OpRecord> take() { return std::move(ops_); }
  int64_t size() const { return static_cast<int64_t>(ops_.size()); }

 private:
  std::vector<OpRecord> ops_;
};

}  // namespace lepton
