#include "candidates.h"

#include <algorithm>

namespace lepton {

void sort_candidates(Candidate* begin, Candidate* end) {
  std::sort(begin, end, [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
  });
}

}  // namespace lepton
