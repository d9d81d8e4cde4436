// Tokens in order of probability, for sampling.
#pragma once

#include <cstdint>

namespace lepton {

struct Candidate {
  float weight;  // exp(logit - largest logit)
  int32_t id;
};

// Descending weight; equal weights by ascending id. Compiled once, outside the kernels, so that its instantiations of
// the standard library hold no wider instructions than the rest.
void sort_candidates(Candidate* begin, Candidate* end);

}  // namespace lepton
