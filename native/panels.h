// Panels: how weights lie in memory for the kernels. One layout for every instruction set.
//
// A panel holds 16 output channels of one matrix. Along the inner size it is a sequence of groups of 32 inputs. Inside
// a group, four consecutive inputs of one channel (a "quad") stand together, channel after channel, so that a 32-bit
// lane of a vector register always belongs to one channel:
//
//   u2  two planes of 64 bytes: two bits each for quads 0-3 and 4-7
//   u3  u2, then 64 bytes whose bit q is the third bit of quad q
//   u4  four planes of 64 bytes; byte [ch * 4 + j] of plane p holds quad p in its low and quad p + 4 in its high nibble
//   u5  u4, then 64 bytes whose bit q is the fifth bit of quad q
//   u6  u4, then two planes of 64 bytes: two bits each for quads 0-3 and 4-7
//   u8  eight planes of 64 bytes, one for each quad
//   t4  as u4, but a code stands for the 8-bit value of that place in kCodebook
//   z4, z8  as u4 and u8, with zero points
//   r8, r8row  as u8, of rotated weights (kernels/rotate.h)
//   f16, bf16, f32  32 x 16 values, input-major, without scales
//
// Values are unsigned; the signed weight is (u - offset). Kinds without headers put 16 f16 scales (and 16 f16 minima)
// in front of each group. The others put a header in front of each super-block of eight groups:
//
//   u4k, u5k  f16 d[16], f16 dmin[16], then 12 x 16 bytes of 6-bit sub-scales and sub-minima: byte [g][ch] holds the
//             low nibbles (scale low, minimum high) of group g; byte [8 + i][ch] the upper two bits: (scale, minimum)
//             pairs of groups 2i (low nibble) and 2i + 1 (high nibble)
//   u6k       f16 d[16], then i8 sub-scale[16][16 ch], one for each 16 inputs
//   u2k       f16 d[16], f16 dmin[16], then 16 x 16 bytes, one for each 16 inputs: 4-bit sub-scale (low nibble) and
//             sub-minimum (high nibble)
//   u3k       f16 d[16], then 12 x 16 bytes of 6-bit sub-scales, plus 32, one for each 16 inputs: byte [i][ch] holds
//             the low nibbles of numbers i and 8 + i; byte [8 + i][ch] the upper two bits of i, 4 + i, 8 + i and 12 + i
//   t4k       f16 d[16], then 6 x 16 bytes of 6-bit sub-scales, plus 32: bytes [0][ch] and [1][ch] hold the upper two
//             bits of groups 0-3 and 4-7; byte [2 + i][ch] the low nibbles of groups 2i and 2i + 1
//   z4, z8      f32 scale[16], i8 zero point[16], less the offset, for each group
//   z4x4, z8x4  the same for each four groups
//   r8          f32 scale[16] for each four groups
//
// r8row has f32 scale[16] in front of the panel, for all its groups.
//
// So every kind has the size of the file format it comes from. Channels and inputs past the end are zero weights.
#pragma once

#include <cstdint>

namespace lepton {

// Kernels are compiled once per instruction set. A function of theirs that the linker shared with other objects could
// bring wider instructions to a machine without them, so those of this header are static, or always inlined.
#define LEPTON_INLINE __attribute__((always_inline))

constexpr int kPanelWidth = 16;
constexpr int kGroup = 32;
constexpr int kQuads = 8;        // quads in a group
constexpr int kBlockGroups = 8;  // groups in a super-block
constexpr int kBlock = kGroup * kBlockGroups;
constexpr int kRotation = 128;           // inputs that are rotated together, and share a scale
constexpr int kMaxRotatedRow = 1 << 16;  // inputs whose codes may be summed up: 127 * 255 times as much fits 31 bits
constexpr int kRotationGroups = kRotation / kGroup;
constexpr float kInverseRotation = 0.08838834764831845f;  // 1 / sqrt(128): a rotation that is not normalised lengthens

#define LEPTON_GGML_PANEL_KINDS(X) \
  X(F32) X(F16) X(BF16) X(U4) X(U4M) X(U5) X(U5M) X(U8) X(U4K) X(U5K) X(U6K) X(T4) X(T4K) X(U3K) X(U2K)
// Kinds whose weights can be read as f32: all but rotated ones.
#define LEPTON_VALUE_PANEL_KINDS(X) LEPTON_GGML_PANEL_KINDS(X) X(Z4) X(Z4x4) X(Z8) X(Z8x4)
#define LEPTON_PANEL_KINDS(X) LEPTON_VALUE_PANEL_KINDS(X) X(R8) X(R8Row)
#define LEPTON_KIND_NAME(kind) kind,
enum class PanelKind : int32_t { LEPTON_PANEL_KINDS(LEPTON_KIND_NAME) };
#undef LEPTON_KIND_NAME
#define LEPTON_KIND_COUNT(kind) +1
constexpr int kNumPanelKinds = LEPTON_PANEL_KINDS(LEPTON_KIND_COUNT);
#undef LEPTON_KIND_COUNT

// Whether a panel holds values, not codes with scales.
static constexpr bool is_wide(PanelKind kind) {
  return kind == PanelKind::F32 || kind == PanelKind::F16 || kind == PanelKind::BF16;
}

static constexpr bool is_rotated(PanelKind kind) { return kind == PanelKind::R8 || kind == PanelKind::R8Row; }

struct KindInfo {
  int bits;         // of a weight, scales apart
  int stored_bits;  // of its code: fewer where a codebook gives the weight
  int offset;       // signed weight = u - offset
  bool has_min;     // y += min * sum(x)
  bool has_header;  // of each super-block
  int scale_bytes;  // in front of each super-block (with headers) or group (without); of R8Row, of the panel
  int group_bytes;  // data of one group
};

constexpr int kZeroPointBytes = kPanelWidth * 5;  // of 16 f32 scales and their i8 zero points

// Groups that share an f32 scale and a zero point; 0 for kinds without them.
static constexpr int zero_point_groups(PanelKind kind) {
  switch (kind) {
    case PanelKind::Z4:
    case PanelKind::Z8: return 1;
    case PanelKind::Z4x4:
    case PanelKind::Z8x4: return 4;
    default: return 0;
  }
}

static constexpr KindInfo kind_info(PanelKind kind) {
  switch (kind) {
    case PanelKind::F32: return {32, 32, 0, false, false, 0, kGroup * kPanelWidth * 4};
    case PanelKind::F16:
    case PanelKind::BF16: return {16, 16, 0, false, false, 0, kGroup * kPanelWidth * 2};
    case PanelKind::U4: return {4, 4, 8, false, false, 32, 256};
    case PanelKind::U4M: return {4, 4, 0, true, false, 64, 256};
    case PanelKind::U5: return {5, 5, 16, false, false, 32, 320};
    case PanelKind::U5M: return {5, 5, 0, true, false, 64, 320};
    case PanelKind::U8: return {8, 8, 128, false, false, 32, 512};
    case PanelKind::U4K: return {4, 4, 0, true, true, 256, 256};
    case PanelKind::U5K: return {5, 5, 0, true, true, 256, 320};
    case PanelKind::U6K: return {6, 6, 32, false, true, 288, 384};
    case PanelKind::T4: return {8, 4, 128, false, false, 32, 256};
    case PanelKind::T4K: return {8, 4, 128, false, true, 128, 256};
    case PanelKind::U3K: return {3, 3, 4, false, true, 224, 192};
    case PanelKind::U2K: return {2, 2, 0, true, true, 320, 128};
    case PanelKind::Z4: return {4, 4, 8, true, true, 8 * kZeroPointBytes, 256};
    case PanelKind::Z4x4: return {4, 4, 8, true, true, 2 * kZeroPointBytes, 256};
    case PanelKind::Z8: return {8, 8, 128, true, true, 8 * kZeroPointBytes, 512};
    case PanelKind::Z8x4: return {8, 8, 128, true, true, 2 * kZeroPointBytes, 512};
    case PanelKind::R8: return {8, 8, 128, false, true, 2 * 4 * kPanelWidth, 512};
    case PanelKind::R8Row: return {8, 8, 128, false, true, 4 * kPanelWidth, 512};
  }
  return {};
}

// What the codes of an IQ4 type stand for (ggml-common.h, kvalues_iq4nl), plus 128.
alignas(16) static constexpr uint8_t kCodebook[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                                      129, 141, 153, 166, 181, 197, 217, 241};

static constexpr int64_t num_groups(int64_t num_inputs) { return (num_inputs + kGroup - 1) / kGroup; }
static constexpr int64_t num_panels(int64_t num_outputs) { return (num_outputs + kPanelWidth - 1) / kPanelWidth; }

// Bytes of one panel. Kinds with headers round the inner size up to whole super-blocks of scales, not of data.
static constexpr int64_t panel_bytes(PanelKind kind, int64_t num_inputs) {
  const KindInfo info = kind_info(kind);
  const int64_t groups = num_groups(num_inputs);
  if (kind == PanelKind::R8Row) return info.scale_bytes + groups * info.group_bytes;
  const int64_t headers = info.has_header ? (groups + kBlockGroups - 1) / kBlockGroups : groups;
  return headers * info.scale_bytes + groups * info.group_bytes;
}

// Bytes from one super-block of a panel to the next.
static constexpr int64_t block_bytes(PanelKind kind) {
  const KindInfo info = kind_info(kind);
  return (info.has_header ? 1 : kBlockGroups) * info.scale_bytes +
         kBlockGroups * static_cast<int64_t>(info.group_bytes);
}

// Offset of a group's data inside its super-block.
static constexpr int64_t group_offset(PanelKind kind, int group) {
  const KindInfo info = kind_info(kind);
  return info.has_header
             ? info.scale_bytes + static_cast<int64_t>(group) * info.group_bytes
             : static_cast<int64_t>(group + 1) * info.scale_bytes + static_cast<int64_t>(group) * info.group_bytes;
}

// A matrix in panels.
struct PanelMatrix {
  const uint8_t* data = nullptr;
  const float* bias = nullptr;  // num_outputs values, or none
  int32_t num_outputs = 0;
  int32_t num_inputs = 0;
  PanelKind kind = PanelKind::F32;

  LEPTON_INLINE const uint8_t* panel(int64_t index) const { return data + index * panel_bytes(kind, num_inputs); }
};

// 32 activations in 8 bits: a row is a sequence of these, so that what one step of a kernel reads or writes of a row
// lies in one place. An offset of 8 in the weights adds `offset` to a dot product with q, and `first_half` to one with
// its first 16: -8 times the sum of q there.
struct Q8Group {
  int8_t q[kGroup];
  float scale;
  float scaled_sum;  // scale * sum of q
  int32_t offset;
  int32_t first_half;
};
static_assert(sizeof(Q8Group) == 48);

// 128 rotated activations: their codes side by side and not across more cache lines than they must, as those that read
// 64 at a time would have it; of the size of four groups.
struct R8Block {
  int8_t q[kRotation];
  float scale;
  int32_t offset;
  uint8_t unused[56];
};
static_assert(sizeof(R8Block) == kRotationGroups * sizeof(Q8Group));

// What follows the codes of a rotated row that has one scale.
struct R8RowTail {
  float scale;
  int32_t offset;
  uint8_t unused[56];
};

// Bytes of a row of 8-bit activations.
static constexpr int64_t q8_row_bytes(int64_t num_inputs) {
  return (num_groups(num_inputs) * static_cast<int64_t>(sizeof(Q8Group)) + 63) / 64 * 64;
}

}  // namespace lepton
