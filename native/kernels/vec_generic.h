// Vectors for any machine: the compiler's own 128-bit vectors (SSE2 on x86-64, NEON on arm64). No fused multiply-add,
// so that results do not depend on what the machine happens to have.
#pragma once

#include <cstdint>
#include <cstring>

namespace lepton::LEPTON_ISA {

constexpr int W = 4;  // f32 lanes
constexpr int kNumRegisters = 16;
typedef float VF __attribute__((vector_size(16)));
typedef int32_t VI __attribute__((vector_size(16)));
typedef uint16_t VB __attribute__((vector_size(16)));  // bytes, two in each lane

static inline VF load(const float* p) {
  VF v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
static inline VF once(VF v) { return v; }  // wider vectors ask for a value to be loaded once
static inline void store(float* p, VF v) { __builtin_memcpy(p, &v, sizeof v); }
static inline VF set1(float x) { return VF{x, x, x, x}; }
static inline VF fma(VF a, VF b, VF c) { return a * b + c; }
static inline VF max(VF a, VF b) { return a > b ? a : b; }
static inline VF min(VF a, VF b) { return a < b ? a : b; }
static inline VF abs(VF a) { return reinterpret_cast<VF>(reinterpret_cast<VI>(a) & 0x7fffffff); }
static inline VF div(VF a, VF b) { return a / b; }
static inline VF select_less(VF a, VF b, VF yes, VF no) { return a < b ? yes : no; }
// Round half to even, for |x| < 2^22.
static inline VF round(VF a) {
  const VF magic = set1(12582912.0f);
  return (a + magic) - magic;
}
static inline VI to_int(VF a) { return __builtin_convertvector(a, VI); }
static inline VF to_float(VI a) { return __builtin_convertvector(a, VF); }
static inline VI load_int(const int32_t* p) {
  VI v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
// x * 2^n for integral n in [-126, 127].
static inline VF times_exp2(VF x, VF n) { return x * reinterpret_cast<VF>((to_int(n) + 127) << 23); }
// For x <= 0: what is to be given to times_exp2 for the integer below x, and x less this.
static inline VF whole_below(VF x, VF* rest) {
  const VF kept = max(set1(-126.0f), x), nearest = round(kept);
  const VF whole = select_less(kept, nearest, nearest - set1(1.0f), nearest);
  *rest = kept - whole;
  return whole;
}
// Lanes that are D apart change places.
template <int D>
static inline VF swap_lanes(VF a) {
  return D == 2 ? VF{a[2], a[3], a[0], a[1]} : VF{a[1], a[0], a[3], a[2]};
}
// W / 2 values, each twice.
static inline VF load_twice(const float* p) { return VF{p[0], p[0], p[1], p[1]}; }
static inline float reduce_add(VF a) { return (a[0] + a[2]) + (a[1] + a[3]); }
static inline float reduce_max(VF a) {
  const float x = a[0] > a[2] ? a[0] : a[2], y = a[1] > a[3] ? a[1] : a[3];
  return x > y ? x : y;
}

// The larger of `running` and |x|, compared as integers: a NaN is larger than all.
static inline VF max_abs(VF running, VF x) {
  const VI a = reinterpret_cast<VI>(running), b = reinterpret_cast<VI>(abs(x));
  return reinterpret_cast<VF>(a > b ? a : b);
}
static inline float reduce_max_abs(VF a) {
  const VF two = max_abs(a, VF{a[2], a[3], a[0], a[1]});
  return max_abs(two, VF{two[1], two[0], two[3], two[2]})[0];
}
// q[32] = x * factor rounded to bytes, halves to even; sums of each 16.
static inline void quantize_values(const float* x, VF factor, int8_t* q, int32_t* sums) {
  for (int h = 0; h < 2; ++h) {
    sums[h] = 0;
    for (int i = 16 * h; i < 16 * h + 16; i += W) {
      const VI rounded = to_int(round(load(x + i) * factor));
      for (int j = 0; j < W; ++j) {
        q[i + j] = static_cast<int8_t>(rounded[j]);
        sums[h] += rounded[j];
      }
    }
  }
}

// q[32] = integral values of at most 127, as bytes.
static inline void store_codes(int8_t* q, const VF* v) {
  for (int i = 0; i < 32; ++i) q[i] = static_cast<int8_t>(to_int(v[i / W])[i % W]);
}

static inline float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 1023;
  uint32_t bits;
  if (exponent == 31) {
    bits = sign | 0x7f800000 | (mantissa << 13);
  } else if (exponent) {
    bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
  } else {
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    __builtin_memcpy(&bits, &value, 4);
    bits |= sign;
  }
  float f;
  __builtin_memcpy(&f, &bits, 4);
  return f;
}

// Round to nearest, ties to even; overflow to infinity.
static inline uint16_t float_to_half(float f) {
  uint32_t bits;
  __builtin_memcpy(&bits, &f, 4);
  const uint16_t sign = (bits >> 16) & 0x8000;
  bits &= 0x7fffffff;
  if (bits >= 0x7f800000) return sign | 0x7c00 | (bits > 0x7f800000 ? 0x200 : 0);
  if (bits >= 0x477ff000) return sign | 0x7c00;
  if (bits < 0x38800000) {  // subnormal: the addition rounds
    float value;
    __builtin_memcpy(&value, &bits, 4);
    value += 0.5f;
    __builtin_memcpy(&bits, &value, 4);
    return sign | static_cast<uint16_t>(bits - 0x3f000000);
  }
  return sign | static_cast<uint16_t>((bits - 0x38000000 + 0xfff + ((bits >> 13) & 1)) >> 13);
}

static inline VF load_half(const uint16_t* p) {
  uint16_t halves __attribute__((vector_size(8)));
  __builtin_memcpy(&halves, p, sizeof halves);
  const VI h = __builtin_convertvector(halves, VI), size = h & 0x7fff;
  const VI normal = (size << 13) + (112 << 23) + ((size >= 0x7c00) & (112 << 23));
  const VI subnormal = reinterpret_cast<VI>(to_float(size) * set1(0x1p-24f));
  return reinterpret_cast<VF>((size < 0x400 ? subnormal : normal) | (h & 0x8000) << 16);
}
// bfloat16: the upper half of an f32.
static inline VF load_bfloat(const uint16_t* p) { return reinterpret_cast<VF>(VI{p[0], p[1], p[2], p[3]} << 16); }
static inline void store_half(uint16_t* p, VF v) {
  for (int i = 0; i < W; ++i) p[i] = float_to_half(v[i]);
}
static inline VB load_bytes(const uint8_t* p) {
  VB v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
static inline void store_bytes(uint8_t* p, VB v) { __builtin_memcpy(p, &v, sizeof v); }
// Each byte moved up by `shift` bits, or down by -shift, and masked: the mask drops what came from its neighbour.
static inline VB move_bits(VB v, int shift, int mask) {
  return (shift > 0 ? v << shift : v >> -shift) & static_cast<uint16_t>(mask * 0x0101);
}
// table[code] for each byte; the table has 16, on a boundary of 16.
static inline VB look_up(const uint8_t* table, VB codes) {
  uint8_t bytes[sizeof(VB)];
  store_bytes(bytes, codes);
  for (uint8_t& byte : bytes) byte = table[byte];
  return load_bytes(bytes);
}
// Four-byte lanes of a quad plane: input j of each channel as f32.
static inline VF quad_input(const uint8_t* plane, int j) {
  VI lanes;
  __builtin_memcpy(&lanes, plane, sizeof lanes);
  return to_float(lanes >> (8 * j) & 255);
}
static inline VF load_scales(const int8_t* p) { return VF{float(p[0]), float(p[1]), float(p[2]), float(p[3])}; }

}  // namespace lepton::LEPTON_ISA
