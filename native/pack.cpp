#include "pack.h"

#include <cmath>
#include <cstring>
#include <stdexcept>
#include <vector>

#define LEPTON_ISA packing
#include "kernels/vec_generic.h"
#include "kernels/rotate.h"

namespace lepton {

namespace {

struct StorageInfo {
  const char* name;
  int block, bytes;
  PanelKind kind;
};

#define LEPTON_STORAGE_INFO(name, block, bytes, kind) {#name, block, bytes, PanelKind::kind},
constexpr StorageInfo kStorage[] = {LEPTON_STORAGE_TYPES(LEPTON_STORAGE_INFO)};
#undef LEPTON_STORAGE_INFO

const StorageInfo& info_of(StorageType type) { return kStorage[static_cast<int>(type)]; }

// Places 32 unsigned values of channel `ch` into a group's data.
void place(int bits, int ch, const uint8_t* u, uint8_t* data) {
  const auto put = [&](int plane, int lane, int value, int shift) {
    data[plane * 64 + lane] |= static_cast<uint8_t>(value << shift);
  };
  for (int q = 0; q < kQuads; ++q)
    for (int j = 0; j < 4; ++j) {
      const int value = u[4 * q + j], lane = 4 * ch + j;
      if (bits == 8) {
        put(q, lane, value, 0);
      } else if (bits < 4) {
        put(q >> 2, lane, value & 3, 2 * (q & 3));
        if (bits == 3) put(2, lane, value >> 2, q);
      } else {
        put(q & 3, lane, value & 15, q & 4);
        if (bits == 5) put(4, lane, value >> 4, q);
        if (bits == 6) put(4 + (q >> 2), lane, value >> 4, 2 * (q & 3));
      }
    }
}

void put_half(uint8_t* halves, int index, const uint8_t* source) { std::memcpy(halves + 2 * index, source, 2); }

void unpack_nibbles(const uint8_t* nibbles, uint8_t* u) {
  for (int i = 0; i < 16; ++i) u[i] = nibbles[i] & 15, u[16 + i] = nibbles[i] >> 4;
}

// One row of a type with an f32 scale and an i8 zero point in front of the codes of each block. Those of four bits
// stand in pairs, the first in the low half.
void pack_zero_point_row(StorageType type, PanelKind kind, const uint8_t* row, int64_t num_inputs, int ch,
                         uint8_t* panel) {
  const KindInfo info = kind_info(kind);
  const int shared = zero_point_groups(kind), code_bytes = kGroup * info.stored_bits / 8;
  for (int64_t g = 0; g < num_inputs / kGroup; ++g) {
    const uint8_t* block = row + g / shared * info_of(type).bytes;
    const uint8_t* codes = block + 5 + g % shared * code_bytes;
    uint8_t* super_block = panel + g / kBlockGroups * block_bytes(kind);
    uint8_t* scales = super_block + g % kBlockGroups / shared * kZeroPointBytes;
    std::memcpy(scales + 4 * ch, block, 4);
    scales[4 * kPanelWidth + ch] = block[4];
    uint8_t u[kGroup];
    if (info.stored_bits == 8)
      std::memcpy(u, codes, kGroup);
    else
      for (int i = 0; i < kGroup / 2; ++i) u[2 * i] = codes[i] & 15, u[2 * i + 1] = codes[i] >> 4;
    place(info.stored_bits, ch, u, super_block + group_offset(kind, static_cast<int>(g % kBlockGroups)));
  }
}

// One row of a type with blocks of 32 and one level of scales.
void pack_simple_row(StorageType type, PanelKind kind, const uint8_t* row, int64_t num_inputs, int ch, uint8_t* panel) {
  const KindInfo info = kind_info(kind);
  const int bytes = info_of(type).bytes;
  for (int64_t g = 0; g < num_inputs / kGroup; ++g) {
    const uint8_t* block = row + g * bytes;
    uint8_t* scales = panel + g * (info.scale_bytes + info.group_bytes);
    uint8_t u[kGroup];
    put_half(scales, ch, block);
    if (type == StorageType::Q4_0 || type == StorageType::IQ4_NL) {
      unpack_nibbles(block + 2, u);
    } else if (type == StorageType::Q4_1) {
      put_half(scales, kPanelWidth + ch, block + 2);
      unpack_nibbles(block + 4, u);
    } else if (type == StorageType::Q5_0 || type == StorageType::Q5_1) {
      const uint8_t* bits = block + 2;
      if (type == StorageType::Q5_1) put_half(scales, kPanelWidth + ch, bits), bits += 2;
      uint32_t high;
      std::memcpy(&high, bits, 4);
      unpack_nibbles(bits + 4, u);
      for (int i = 0; i < kGroup; ++i) u[i] = static_cast<uint8_t>(u[i] | (((high >> i) & 1) << 4));
    } else {
      for (int i = 0; i < kGroup; ++i) u[i] = static_cast<uint8_t>(block[2 + i] ^ 0x80);
    }
    place(info.stored_bits, ch, u, scales + info.scale_bytes);
  }
}

// Sub-scale and sub-minimum j of the 12 bytes of a Q4_K or Q5_K block, six bits each.
void sub_scale(const uint8_t* packed, int j, uint8_t* scale, uint8_t* min) {
  if (j < 4) {
    *scale = packed[j] & 63;
    *min = packed[j + 4] & 63;
  } else {
    *scale = static_cast<uint8_t>((packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4));
    *min = static_cast<uint8_t>((packed[j + 4] >> 4) | ((packed[j] >> 6) << 4));
  }
}

void pack_k45_block(StorageType type, const uint8_t* block, int ch, uint8_t* out) {
  const bool five = type == StorageType::Q5_K;
  const PanelKind kind = five ? PanelKind::U5K : PanelKind::U4K;
  put_half(out, ch, block);
  put_half(out, kPanelWidth + ch, block + 2);
  const uint8_t* high = block + 16;
  const uint8_t* nibbles = five ? block + 48 : block + 16;
  for (int j = 0; j < kBlockGroups; ++j) {
    uint8_t scale, min, u[kGroup];
    sub_scale(block + 4, j, &scale, &min);
    out[64 + j * kPanelWidth + ch] = static_cast<uint8_t>((scale & 15) | ((min & 15) << 4));
    out[192 + (j >> 1) * kPanelWidth + ch] |= static_cast<uint8_t>(((scale >> 4) | ((min >> 4) << 2)) << (4 * (j & 1)));
    for (int i = 0; i < kGroup; ++i) {
      const uint8_t pair = nibbles[(j >> 1) * 32 + i];
      u[i] = j & 1 ? pair >> 4 : pair & 15;
      if (five) u[i] = static_cast<uint8_t>(u[i] | (((high[i] >> j) & 1) << 4));
    }
    place(five ? 5 : 4, ch, u, out + group_offset(kind, j));
  }
}

void pack_k6_block(const uint8_t* block, int ch, uint8_t* out) {
  uint8_t u[kBlock];
  for (int half = 0; half < 2; ++half) {
    const uint8_t* low = block + half * 64;
    const uint8_t* high = block + 128 + half * 32;
    for (int i = 0; i < 32; ++i)
      for (int part = 0; part < 4; ++part) {
        const uint8_t nibble = part < 2 ? low[i + 32 * part] & 15 : low[i + 32 * (part - 2)] >> 4;
        u[half * 128 + part * 32 + i] = static_cast<uint8_t>(nibble | (((high[i] >> (2 * part)) & 3) << 4));
      }
  }
  put_half(out, ch, block + 208);
  for (int s = 0; s < 16; ++s) out[32 + s * kPanelWidth + ch] = block[192 + s];
  for (int g = 0; g < kBlockGroups; ++g) place(6, ch, u + g * kGroup, out + group_offset(PanelKind::U6K, g));
}

void pack_q2_k_block(const uint8_t* block, int ch, uint8_t* out) {
  const uint8_t* pairs = block + 16;
  put_half(out, ch, block + 80);
  put_half(out, kPanelWidth + ch, block + 82);
  for (int s = 0; s < 16; ++s) out[64 + s * kPanelWidth + ch] = block[s];
  for (int g = 0; g < kBlockGroups; ++g) {
    uint8_t u[kGroup];
    for (int i = 0; i < kGroup; ++i) u[i] = pairs[(g >> 2) * 32 + i] >> (2 * (g & 3)) & 3;
    place(2, ch, u, out + group_offset(PanelKind::U2K, g));
  }
}

void pack_q3_k_block(const uint8_t* block, int ch, uint8_t* out) {
  const uint8_t *high = block, *low = block + 32, *scales = block + 96;
  put_half(out, ch, block + 108);
  for (int i = 0; i < 12; ++i) out[32 + i * kPanelWidth + ch] = scales[i];
  for (int g = 0; g < kBlockGroups; ++g) {
    uint8_t u[kGroup];
    for (int i = 0; i < kGroup; ++i)
      u[i] = static_cast<uint8_t>((low[(g >> 2) * 32 + i] >> (2 * (g & 3)) & 3) | (high[i] >> g & 1) << 2);
    place(3, ch, u, out + group_offset(PanelKind::U3K, g));
  }
}

void pack_iq4_xs_block(const uint8_t* block, int ch, uint8_t* out) {
  put_half(out, ch, block);
  for (int i = 0; i < 6; ++i) out[32 + i * kPanelWidth + ch] = block[2 + i];
  for (int g = 0; g < kBlockGroups; ++g) {
    uint8_t u[kGroup];
    unpack_nibbles(block + 8 + g * 16, u);
    place(4, ch, u, out + group_offset(PanelKind::T4K, g));
  }
}

void pack_super_block(StorageType type, const uint8_t* block, int ch, uint8_t* out) {
  if (type == StorageType::Q6_K)
    pack_k6_block(block, ch, out);
  else if (type == StorageType::Q2_K)
    pack_q2_k_block(block, ch, out);
  else if (type == StorageType::Q3_K)
    pack_q3_k_block(block, ch, out);
  else if (type == StorageType::IQ4_XS)
    pack_iq4_xs_block(block, ch, out);
  else
    pack_k45_block(type, block, ch, out);
}

float wide_value(StorageType type, const uint8_t* row, int64_t i) {
  if (type == StorageType::F32) {
    float value;
    std::memcpy(&value, row + 4 * i, 4);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, row + 2 * i, 2);
  if (type == StorageType::F16) return packing::half_to_float(half);
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

void pack_wide_row(StorageType type, const uint8_t* row, int64_t num_inputs, int ch, uint8_t* panel) {
  const int bytes = info_of(type).bytes;
  for (int64_t i = 0; i < num_inputs; ++i) std::memcpy(panel + (i * kPanelWidth + ch) * bytes, row + i * bytes, bytes);
}

// Codes and scale of `size` values: q = round_half_even(x * (127 / max|x|)), scale = max|x| / 127; below 2^-100 all
// zero. If one is infinite or NaN the scale is NaN, so that the outputs say so.
float quantize_values(const float* x, int size, uint8_t* u) {
  float largest = 0.0f;
  bool is_finite = true;
  for (int i = 0; i < size; ++i) {
    largest = std::fmax(largest, std::fabs(x[i]));
    is_finite &= std::isfinite(x[i]);
  }
  const bool is_usable = is_finite && largest >= 0x1p-100f;
  const float inverse = is_usable ? 127.0f / largest : 0.0f;
  for (int i = 0; i < size; ++i)
    u[i] = static_cast<uint8_t>(is_usable ? static_cast<int>(std::nearbyint(x[i] * inverse)) + 128 : 128);
  return is_usable ? largest / 127.0f : is_finite ? 0.0f : NAN;
}

// Groups of 32, whose scales are rounded to f16.
void quantize_wide_row(StorageType type, const uint8_t* row, int64_t num_inputs, int ch, uint8_t* panel) {
  const KindInfo info = kind_info(PanelKind::U8);
  for (int64_t g = 0; g < num_groups(num_inputs); ++g) {
    float x[kGroup] = {};
    for (int64_t i = g * kGroup; i < num_inputs && i < (g + 1) * kGroup; ++i)
      x[i - g * kGroup] = wide_value(type, row, i);
    uint8_t u[kGroup];
    uint8_t* scales = panel + g * (info.scale_bytes + info.group_bytes);
    const uint16_t half = packing::float_to_half(quantize_values(x, kGroup, u));
    std::memcpy(scales + 2 * ch, &half, 2);
    place(8, ch, u, scales + info.scale_bytes);
  }
}

// A row, rotated as a whole, with an f32 scale.
void rotate_whole_row(StorageType type, const uint8_t* row, int64_t num_inputs, int ch, uint8_t* panel) {
  const int size = static_cast<int>(num_inputs);
  std::vector<float> x(size);
  for (int i = 0; i < size; ++i) x[i] = wide_value(type, row, i);
  packing::rotate_row(x.data(), size, x.data());
  std::vector<uint8_t> u(size);
  const float scale =
      quantize_values(x.data(), size, u.data()) * packing::inverse_rotation(packing::row_rotation(size));
  const KindInfo info = kind_info(PanelKind::R8Row);
  std::memcpy(panel + ch * sizeof(float), &scale, sizeof scale);
  for (int64_t g = 0; g < num_groups(num_inputs); ++g)
    place(8, ch, u.data() + g * kGroup, panel + info.scale_bytes + g * info.group_bytes);
}

// Rotated blocks of 128 with an f32 scale each.
void rotate_wide_row(StorageType type, const uint8_t* row, int64_t num_inputs, int ch, uint8_t* panel) {
  for (int64_t b = 0; b < num_inputs / kRotation; ++b) {
    float x[kRotation];
    for (int i = 0; i < kRotation; ++i) x[i] = wide_value(type, row, b * kRotation + i);
    packing::RotationBlock rotated = packing::RotationBlock::load_from(x);
    packing::rotate(rotated);
    for (int i = 0; i < kRotation; ++i) x[i] = rotated.v[i / packing::W][i % packing::W];
    uint8_t u[kRotation];
    const float scale = quantize_values(x, kRotation, u) * kInverseRotation;
    const int64_t first = b * kRotationGroups;
    uint8_t* block = panel + first / kBlockGroups * block_bytes(PanelKind::R8);
    const int group = static_cast<int>(first % kBlockGroups);
    std::memcpy(block + (group / kRotationGroups * kPanelWidth + ch) * sizeof(float), &scale, sizeof scale);
    for (int g = 0; g < kRotationGroups; ++g)
      place(8, ch, u + g * kGroup, block + group_offset(PanelKind::R8, group + g));
  }
}

}  // namespace

StorageType parse_storage_type(const std::string& name) {
  for (int i = 0; i < static_cast<int>(std::size(kStorage)); ++i)
    if (name == kStorage[i].name) return static_cast<StorageType>(i);
  std::string names;
  for (const StorageInfo& info : kStorage) names += std::string(info.name) + ", ";
  throw std::invalid_argument("storage type: expected one of " + names + "got " + name);
}

int64_t storage_row_bytes(StorageType type, int64_t num_inputs) {
  const StorageInfo& info = info_of(type);
  if (num_inputs % info.block)
    throw std::invalid_argument("num_inputs: expected a multiple of " + std::to_string(info.block) + " for " +
                                info.name + ", got " + std::to_string(num_inputs));
  return num_inputs / info.block * info.bytes;
}

Narrowing parse_narrowing(const std::string& name) {
  if (name == "none") return Narrowing::None;
  if (name == "q8") return Narrowing::Q8;
  if (name == "r8") return Narrowing::R8;
  if (name == "r8row") return Narrowing::R8Row;
  throw std::invalid_argument("narrowing: expected none, q8, r8 or r8row, got " + name);
}

PanelKind kind_for(StorageType type, Narrowing narrowing) {
  const PanelKind kind = info_of(type).kind;
  if (narrowing == Narrowing::None || !is_wide(kind)) return kind;
  return narrowing == Narrowing::R8 ? PanelKind::R8 : narrowing == Narrowing::R8Row ? PanelKind::R8Row : PanelKind::U8;
}

void pack_panel(StorageType type, PanelKind kind, const uint8_t* rows, int64_t num_outputs, int64_t num_inputs,
                int64_t index, uint8_t* panel) {
  const int64_t bytes = storage_row_bytes(type, num_inputs);
  std::memset(panel, 0, panel_bytes(kind, num_inputs));
  for (int ch = 0; ch < kPanelWidth && index * kPanelWidth + ch < num_outputs; ++ch) {
    const uint8_t* row = rows + (index * kPanelWidth + ch) * bytes;
    if (is_wide(info_of(type).kind)) {
      if (kind == PanelKind::U8)
        quantize_wide_row(type, row, num_inputs, ch, panel);
      else if (kind == PanelKind::R8)
        rotate_wide_row(type, row, num_inputs, ch, panel);
      else if (kind == PanelKind::R8Row)
        rotate_whole_row(type, row, num_inputs, ch, panel);
      else
        pack_wide_row(type, row, num_inputs, ch, panel);
    } else if (zero_point_groups(kind) > 0) {
      pack_zero_point_row(type, kind, row, num_inputs, ch, panel);
    } else if (kind_info(kind).has_header) {
      for (int64_t b = 0; b < num_inputs / kBlock; ++b)
        pack_super_block(type, row + b * info_of(type).bytes, ch, panel + b * block_bytes(kind));
    } else {
      pack_simple_row(type, kind, row, num_inputs, ch, panel);
    }
  }
}

}  // namespace lepton
