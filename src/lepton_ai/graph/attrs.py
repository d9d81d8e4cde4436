"""Attributes of ops, one frozen dataclass for each op that has any."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

from lepton_ai.graph.tensor import DType


@dataclass(frozen=True, slots=True)
class Attrs:
    """An op without attributes."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One matrix of a (possibly fused) linear op: addressed by its weight's name.

    ``has_bias`` says that the node's weights hold the bias right after this segment's matrix. ``num_terms``: how many
    8-bit rows of its input the segment multiplies, 0 if the input is f32. Of a ``Q16`` input, a segment may read the
    first alone.
    """

    name: str
    num_outputs: int
    has_bias: bool = False
    num_terms: int = 0


@dataclass(frozen=True, slots=True)
class LinearAttrs(Attrs):
    """``segments`` in order; the node's ``weights`` are, per segment, matrix then bias if it has one.

    Output ``i`` of the node belongs to segment ``i``. ``quantize_weights`` (policy ``fast``) asks the backend to hold
    the matrices that are wider than 8 bits in 8 bits: rotated if the input is (``R8``), else in groups of 32, and every
    reader of such a weight then sees the 8-bit values (an embedding that shares its table with the head included).
    """

    segments: tuple[Segment, ...]
    quantize_weights: bool = False


class NormKind(enum.Enum):
    """``RMS`` has a weight; ``LAYER`` subtracts the mean first, and has a weight and a bias."""

    RMS = "rms"
    LAYER = "layer"


@dataclass(frozen=True, slots=True)
class NormAttrs(Attrs):
    """``num_groups``: a row is so many equal parts, normalised separately with the same weight.

    ``weight_offset`` is added to the weight. ``quantize``: the output is quantised instead of f32.
    """

    eps: float
    kind: NormKind = NormKind.RMS
    num_groups: int = 1
    weight_offset: float = 0.0
    quantize: bool = False


@dataclass(frozen=True, slots=True)
class EmbeddingAttrs(Attrs):
    """``scale`` multiplies the rows of the table; id 0 is its row ``first_row``."""

    scale: float = 1.0
    first_row: int = 0


@dataclass(frozen=True, slots=True)
class RopeTableAttrs(Attrs):
    """``inverse_frequencies`` are ``D/2`` f32 values in radians per position; ``scale`` multiplies sine and cosine."""

    inverse_frequencies: tuple[float, ...]
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class RopeAttrs(Attrs):
    """``interleaved``: pairs are (2i, 2i+1), as GGUF Llama files store them; else (i, i + D/2), as NeoX does."""

    head_dim: int
    interleaved: bool


KV_DTYPES = (DType.F32, DType.F16, DType.I16, DType.I8)
"""What a KV cache may hold that is asked for."""

BASE_TOKENS = 16
"""Tokens, from a multiple of it on, whose keys have one base in a cache of ``I8``; a KV block holds as many."""

_SCALE_BYTES = 4
_LINE_BYTES = 4  # a token's share of the 64 that blocks of codes are filled up to


@dataclass(frozen=True, slots=True)
class KVSpec:
    """What one layer keeps per token; layers with equal specs form a KV group.

    ``window``: the number of last positions a query sees, itself included; None sees all.

    With the dtype ``BF16``, keys and values are the upper halves of f32, rounded to the nearest, ties to even.

    With the dtype ``I16``, each head of a key or value is kept as 16-bit codes with one f32 scale, all in f32:
    ``code = round_half_even(x * (32639 / m))``, ``scale = m / 32639`` with ``m`` the largest ``|x|`` of the head and
    the limits of ``m`` that ``graph/passes/precision.py`` states. A code that lies 128 below a multiple of 256 becomes
    one more: its bytes are multiplied apart, and -128 cannot be negated.

    With the dtype ``I8``, each head of a key or value is kept as 8-bit codes with one f32 scale, by the rule that
    ``graph/passes/precision.py`` states for groups of 32. All is f32:

    1. Heads of keys, values and queries are rotated (QuaRot, Ashkboos et al. 2024): each ``rotation`` values by the
       Walsh-Hadamard transform (sums and differences at distances ``rotation / 2, ... 1``), so that no channel stands
       out. Products of rotated heads are ``rotation`` times larger; what attention makes of values is rotated back.
    2. The key of the first of each ``BASE_TOKENS`` tokens is quantised: ``base = code * scale``, rounded.
    3. Keys less their base are quantised, that of the first too. What all keys have in common is in the base and
       coarsens no code: the biases of Qwen2.5 make it up to a hundred times as long as the rest of a key.
    """

    num_heads: int
    head_dim: int
    dtype: DType = DType.F32
    window: int | None = None

    @property
    def bytes_per_token(self) -> int:
        """Bytes of keys and values of one token in one layer."""
        if self.dtype is DType.I16:
            return 2 * self.num_heads * (self.head_dim * self.dtype.itemsize + _SCALE_BYTES)
        if self.dtype is not DType.I8:
            return 2 * self.num_heads * self.head_dim * self.dtype.itemsize
        coded = self.head_dim + _SCALE_BYTES
        with_base = 2 * coded + -(-coded // BASE_TOKENS)
        return self.num_heads * -(-with_base // _LINE_BYTES) * _LINE_BYTES

    @property
    def rotation(self) -> int:
        """Values of a head that are rotated together: the largest power of two that divides ``head_dim``; else 1."""
        return self.head_dim & -self.head_dim if self.dtype is DType.I8 else 1


def kv_groups(specs: Sequence[KVSpec]) -> dict[KVSpec, tuple[int, ...]]:
    """Layers by spec: the KV groups, in the order of their first layer. ``StepInputs.kv_groups`` has this order."""
    groups: dict[KVSpec, tuple[int, ...]] = {}
    for layer, spec in enumerate(specs):
        groups[spec] = (*groups.get(spec, ()), layer)
    return groups


@dataclass(frozen=True, slots=True)
class DistanceBuckets:
    """Classes of the distance from a query to a key, forwards and backwards (Raffel et al. 2020, T5).

    Each direction has half of the ``count``: of these, the first half holds one distance each, the others hold ranges
    that grow logarithmically up to ``max_distance``; whatever is farther falls into the last.
    """

    count: int
    max_distance: int

    def bucket(self, distance: int) -> int:
        """The class of ``distance``, the key's position less the query's."""
        each = self.count // 2
        exact = each // 2
        first, size = (each, distance) if distance > 0 else (0, -distance)
        if size < exact:
            return first + size
        growth = math.log(size / exact) / math.log(self.max_distance / exact)
        return first + min(exact + int(growth * (each - exact)), each - 1)


@dataclass(frozen=True, slots=True)
class AttentionAttrs(Attrs):
    """``layer`` is the index of this layer's cache. ``is_causal``: a token sees none after it.

    With ``buckets`` the node's weight is a table of biases, a row for each bucket and a column for each head.
    ``rope`` is set when the rotation of queries and keys was fused into the op (the table is then its fourth input);
    ``quantize``: the output is quantised instead of f32.
    """

    num_heads: int
    layer: int
    kv: KVSpec
    scale: float
    is_causal: bool = True
    buckets: DistanceBuckets | None = None
    rope: RopeAttrs | None = None
    quantize: bool = False


class Activation(enum.Enum):
    """Functions of one value; ``ops.activate`` has their formulas."""

    SILU = "silu"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    RELU = "relu"
    TANH = "tanh"


@dataclass(frozen=True, slots=True)
class ActivationAttrs(Attrs):
    """``quantize``: the output is quantised instead of f32."""

    kind: Activation
    quantize: bool = False


@dataclass(frozen=True, slots=True)
class ActivatedLinearAttrs(Attrs):
    """``segments``: the one whose product is activated; or gate and up, in this order, of which the gate is.

    ``quantize``: the output is quantised (``Q8``) instead of f32.
    """

    segments: tuple[Segment, ...]
    kind: Activation
    quantize: bool = False
    quantize_weights: bool = False


class PoolMode(enum.Enum):
    """How the tokens of a sequence become one row; ``ops.pool`` has the formulas."""

    CLS = "cls"
    MEAN = "mean"
    MAX = "max"
    LAST = "last"
    MEAN_SQRT_LEN = "mean_sqrt_len"


@dataclass(frozen=True, slots=True)
class PoolAttrs(Attrs):
    """``mode``: what is taken of each sequence."""

    mode: PoolMode
