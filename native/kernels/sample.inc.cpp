// The choice of one token per row: biases, masks, penalties, temperature, top-k, top-p, min-p, a counter-based draw;
// log-probabilities, of a given token too. The order of the steps is that of backends/reference/sampling.py.

namespace lepton::LEPTON_ISA {

constexpr int kMaxLogprobs = 20;

// Philox4x32-10 (Salmon et al. 2011): key = seed, counter = (draw, 0, 0). A uniform number in [0, 1) of 24 bits.
static float uniform(uint64_t seed, uint64_t draw) {
  uint32_t c[4] = {static_cast<uint32_t>(draw), static_cast<uint32_t>(draw >> 32), 0, 0};
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * c[0], b = uint64_t{0xCD9E8D57u} * c[2];
    const uint32_t next[4] = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(b),
                              static_cast<uint32_t>(a >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(a)};
    for (int i = 0; i < 4; ++i) c[i] = next[i];
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return static_cast<float>(c[0] >> 8) * 0x1p-24f;
}

// The largest value; a NaN counts as lower than all (it stands first in max, which then gives the other operand).
static float largest_of(const float* x, int32_t size) {
  VF largest = set1(-__builtin_inff());
  int i = 0;
  for (; i + W <= size; i += W) largest = max(load(x + i), largest);
  float result = reduce_max(largest);
  for (; i < size; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

// A NaN as minus infinity.
static inline VF without_nan(VF x) { return max(x, set1(-__builtin_inff())); }
static inline float without_nan(float x) { return x == x ? x : -__builtin_inff(); }

static int32_t first_equal(const float* x, int32_t size, float value) {
  for (int i = 0; i < size; ++i)
    if (without_nan(x[i]) == value) return i;
  return 0;
}

// y = exp((x - largest) / temperature); returns the sum, taken in f32 over runs of 1,024 and in f64 over the runs.
static double exponentials(const float* x, int32_t size, float largest, float temperature, float* y) {
  double total = 0.0;
  int i = 0;
  while (i + W <= size) {
    VF run = set1(0.0f);
    const int end = static_cast<int>(min64(i + 1024, size));
    for (; i + W <= end; i += W) {
      const VF e = exp(div(without_nan(load(x + i)) - set1(largest), set1(temperature)));
      if (y) store(y + i, e);
      run = run + e;
    }
    total += static_cast<double>(reduce_add(run));
  }
  for (; i < size; ++i) {
    const float e = exp1((without_nan(x[i]) - largest) / temperature);
    if (y) y[i] = e;
    total += static_cast<double>(e);
  }
  return total;
}

// Repetition (Keskar et al. 2019) over prompt and output; presence and frequency over the output alone. `counts` has
// room for the vocabulary; only entries of tokens in the history are touched.
static void penalize(const SamplingRow& row, const int32_t* history, float* x, int32_t* counts) {
  const int32_t *prompt = history + row.history_begin, *output = prompt + row.num_prompt_tokens;
  const int32_t* end = history + row.history_end;
  for (const int32_t* p = prompt; p < end; ++p) counts[*p] = 0;
  if (row.repetition_penalty != 1.0f)
    for (const int32_t* p = prompt; p < end; ++p)
      if (counts[*p]++ == 0) x[*p] = x[*p] > 0.0f ? x[*p] / row.repetition_penalty : x[*p] * row.repetition_penalty;
  for (const int32_t* p = prompt; p < end; ++p) counts[*p] = 0;
  for (const int32_t* p = output; p < end; ++p) ++counts[*p];
  for (const int32_t* p = output; p < end; ++p) {
    if (counts[*p] > 0) x[*p] -= row.presence_penalty + row.frequency_penalty * static_cast<float>(counts[*p]);
    counts[*p] = 0;
  }
}

// Adds the biases of a row, then hides what its mask leaves out.
static void bias_and_mask(const SamplingRow& row, const Step& step, float* x, int32_t size) {
  for (int32_t i = row.bias_begin; i < row.bias_end; ++i) x[step.bias_ids[i]] += step.bias_values[i];
  if (!row.mask) return;
  for (int32_t begin = 0; begin < size; begin += 32) {
    const uint32_t word = row.mask[begin / 32];
    const int32_t end = begin + 32 < size ? begin + 32 : size;
    if (word == 0xffffffffu) continue;
    for (int32_t i = begin; i < end; ++i)
      if (!(word >> (i - begin) & 1)) x[i] = -__builtin_inff();
  }
}

// Tokens by descending weight, sorted in layers of weight (each a 128th of the one before) as far as they are asked
// for.
class SortedTokens {
 public:
  SortedTokens(const float* weights, int32_t size, Candidate* space) : weights_(weights), size_(size), tokens_(space) {}

  // The token of this rank, or null past the last token with a weight above zero.
  const Candidate* at(int32_t rank) {
    while (rank >= count_ && upper_ > 0.0f) add_layer();
    return rank < count_ ? tokens_ + rank : nullptr;
  }

 private:
  void add_layer() {
    const float lower = upper_ > 1e-30f ? upper_ * 0.0078125f : 0.0f;
    const int32_t begin = count_;
    const VF low = set1(lower), high = set1(upper_);
    int i = 0;
    for (; i + W <= size_; i += W) {
      const VF w = load(weights_ + i);
      if (reduce_max(select_less(low, w, select_less(high, w, set1(0.0f), set1(1.0f)), set1(0.0f))) == 0.0f) continue;
      for (int j = i; j < i + W; ++j) take(j, lower);
    }
    for (; i < size_; ++i) take(i, lower);
    sort_candidates(tokens_ + begin, tokens_ + count_);
    upper_ = lower;
  }

  void take(int i, float lower) {
    if (weights_[i] > lower && weights_[i] <= upper_) tokens_[count_++] = {weights_[i], i};
  }

  const float* weights_;
  int32_t size_;
  Candidate* tokens_;
  int32_t count_ = 0;
  float upper_ = 1.0f;
};

// Draws a token from weights (the largest is 1) whose sum is `total`.
static int32_t draw_token(const SamplingRow& row, const float* weights, int32_t size, double total, Candidate* space) {
  SortedTokens tokens(weights, size, space);
  int32_t limit = size;
  double mass = total;
  if (row.top_k > 0 && row.top_k < size) {
    limit = row.top_k;
    mass = 0.0;
    for (int32_t i = 0; i < limit && tokens.at(i); ++i) mass += static_cast<double>(tokens.at(i)->weight);
  }
  if (row.top_p < 1.0f || row.min_p > 0.0f) {
    const double enough = row.top_p < 1.0f ? static_cast<double>(row.top_p) * mass : mass * 2.0;
    double kept = 0.0;
    int32_t count = 0;
    for (const Candidate* c; count < limit && kept < enough && (c = tokens.at(count)); ++count) {
      if (c->weight < row.min_p && count > 0) break;
      kept += static_cast<double>(c->weight);
    }
    limit = count;
    mass = kept;
  }
  const double target = static_cast<double>(uniform(row.seed, row.draw)) * mass;
  double sum = 0.0;
  const Candidate* chosen = tokens.at(0);
  for (int32_t i = 0; i < limit; ++i) {
    const Candidate* c = tokens.at(i);
    if (!c) break;
    chosen = c;
    sum += static_cast<double>(c->weight);
    if (sum > target) break;
  }
  return chosen->id;
}

// The `count` largest logits in descending order, ties by ascending id; minus infinity past the vocabulary's end.
static void top_logits(const float* x, int32_t size, int count, float* values, int32_t* ids) {
  int found = 0;
  for (int i = 0; i < count; ++i) values[i] = -__builtin_inff(), ids[i] = 0;
  for (int i = 0; i < size && count > 0; ++i) {
    if (found == count && !(x[i] > values[count - 1])) continue;
    const float value = without_nan(x[i]);
    int at = found < count ? found++ : count - 1;
    for (; at > 0 && value > values[at - 1]; --at) values[at] = values[at - 1], ids[at] = ids[at - 1];
    values[at] = value;
    ids[at] = i;
  }
}

static Chunks sample_chunks(const OpRecord&, const Step& step) { return {step.sampling ? step.num_rows : 0}; }

// The token of a row whose largest logit is `largest`.
static int32_t choose_token(const SamplingRow& row, const Step& step, const float* logits, int32_t size, float largest,
                            Scratch scratch) {
  const bool penalized =
      row.repetition_penalty != 1.0f || row.presence_penalty != 0.0f || row.frequency_penalty != 0.0f;
  const bool changed = penalized || row.mask || row.bias_end > row.bias_begin;
  float* x = reinterpret_cast<float*>(scratch.data);
  const float* chosen_from = logits;
  if (changed) {
    __builtin_memcpy(x, logits, sizeof(float) * size);
    bias_and_mask(row, step, x, size);
    if (penalized) penalize(row, step.history, x, reinterpret_cast<int32_t*>(x + size));
    chosen_from = x;
  }
  const float top = changed ? largest_of(x, size) : largest;
  if (row.temperature == 0.0f) return first_equal(chosen_from, size, top);
  double total = 0.0;
  if (!(__builtin_fabsf(top) <= 3.4028235e38f)) {  // infinite: its holders share the mass
    for (int i = 0; i < size; ++i) total += x[i] = without_nan(chosen_from[i]) == top ? 1.0f : 0.0f;
  } else {
    total = exponentials(chosen_from, size, top, row.temperature, x);
  }
  return draw_token(row, x, size, total, reinterpret_cast<Candidate*>(x + size));
}

static void sample_run(const OpRecord& record, const Step& step, int64_t r, Scratch scratch) {
  const SampleOp& op = record.sample;
  const SamplingRow& row = step.sampling[r];
  const int32_t size = op.vocab_size;
  const float* logits = op.logits.row(step, r);
  const float largest = largest_of(logits, size);
  const float normaliser = static_cast<float>(__builtin_log(exponentials(logits, size, largest, 1.0f, nullptr)));
  const int32_t id = row.forced_id >= 0 ? row.forced_id : choose_token(row, step, logits, size, largest, scratch);
  *op.ids.row<int32_t>(step, r) = id;
  *op.logprobs.row(step, r) = without_nan(logits[id]) - largest - normaliser;
  const int count = row.num_logprobs < kMaxLogprobs ? row.num_logprobs : kMaxLogprobs;
  float* values = op.top_logprobs.row(step, r);
  top_logits(logits, size, count, values, op.top_ids.row<int32_t>(step, r));
  for (int i = 0; i < count; ++i) values[i] = values[i] - largest - normaliser;
}

}  // namespace lepton::LEPTON_ISA
