// 16-bit codes of a row that shares one scale, in two bytes, so that products of codes are products of bytes: exact,
// and the same by whatever instructions and in whatever order.
//
//   m = max|x|,  scale = m / 32639,  code = round_half_even(x * (32639 / m)) = 256 * high + low,
//
// both signed; limits of m as in quantize.h. 32639 is the largest code whose high byte is 127 and low byte too. A low
// byte of -128, which not every processor can negate, becomes -127.
#pragma once

#include "quantize.h"

namespace lepton::LEPTON_ISA {

constexpr float kMaxCode16 = 32639.0f;

static inline float code16_factor(float amax) { return is_tiny(amax) ? 0.0f : kMaxCode16 / amax; }
static inline float code16_scale(float amax) {
  return !is_finite(amax) ? __builtin_nanf("") : is_tiny(amax) ? 0.0f : amax / kMaxCode16;
}

static inline float amax_of(const float* x, int size) {
  VF largest = set1(0.0f);
  for (int i = 0; i < size; i += W) largest = max_abs(largest, load(x + i));
  return reduce_max_abs(largest);
}

// 32 codes, at most kMaxCode16 in size, as bytes.
template <class V>
static inline LEPTON_INLINE void split_codes16(const V* codes, int8_t* high, int8_t* low) {
  if constexpr (sizeof(V) == 64) {
    split_words(codes, high, low);
  } else {
    V h[kGroup / W], l[kGroup / W];
    for (int i = 0; i < kGroup / W; ++i) {
      const V code = round(codes[i]);
      // No tie: a low byte of 128 is one of -128 under the next high byte.
      h[i] = round(fma(code, set1(0x1p-8f), set1(0x1p-10f)));
      l[i] = max(set1(-127.0f), fma(h[i], set1(-256.0f), code));
    }
    store_codes(high, h);
    store_codes(low, l);
  }
}

// A row of `size` values, a multiple of 16, becomes codes. Returns their scale. Writes whole groups of 32 bytes.
static inline float encode16(const float* x, int size, int8_t* high, int8_t* low) {
  const float amax = amax_of(x, size);
  const VF factor = set1(is_finite(amax) ? code16_factor(amax) : 0.0f);
  for (int first = 0; first < size; first += kGroup) {
    VF codes[kGroup / W];
    for (int i = 0; i < kGroup / W; ++i)
      codes[i] = is_finite(amax) && first + i * W < size ? load(x + first + i * W) * factor : set1(0.0f);
    split_codes16(codes, high + first, low + first);
  }
  return code16_scale(amax);
}

static inline int32_t sum_bytes(const int8_t* bytes, int size) {
  int32_t sum = 0;
  for (int i = 0; i < size; ++i) sum += bytes[i];
  return sum;
}

// Rows of codes that multiply codes of BYTES kept as unsigned bytes, 128 more than they are.
struct CodedRows {
  int8_t* high;  // row r starts at r * stride, a multiple of 32
  int8_t* low;
  int64_t stride;
  float* scales;
  // What the 128 add to the sums of products with high bytes alone, and to all others, less than nothing.
  int32_t* high_offsets;
  int32_t* low_offsets;
  int32_t* offsets;  // of both, in 256ths

  // Of the codes [begin, end) of row r.
  template <int BYTES>
  LEPTON_INLINE void set_offsets(int r, int begin, int end) const {
    high_offsets[r] = -128 * sum_bytes(high + r * stride + begin, end - begin);
    low_offsets[r] = -128 * sum_bytes(low + r * stride + begin, end - begin);
    if constexpr (BYTES == 2) low_offsets[r] += high_offsets[r];
    offsets[r] = 256 * high_offsets[r] + low_offsets[r];
  }

  template <int BYTES>
  LEPTON_INLINE void encode(int r, const float* x, int size) const {
    scales[r] = encode16(x, size, high + r * stride, low + r * stride);
    set_offsets<BYTES>(r, 0, size);
  }
};

}  // namespace lepton::LEPTON_ISA
