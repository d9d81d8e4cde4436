"""Types of the compiled module (native/bindings.cpp, native/bindings_encoder.cpp)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Place = tuple[int, int]
Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]
UInt64Array = npt.NDArray[np.uint64]
ByteArray = npt.NDArray[np.uint8]
SamplingArrays = tuple[
    Float32Array,
    Int32Array,
    Float32Array,
    Float32Array,
    Float32Array,
    Float32Array,
    Float32Array,
    UInt64Array,
    UInt64Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Float32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
]

BLOCK_TOKENS: int
LAYOUT_VERSION: str

def available_isas() -> list[str]: ...
def panel_kind(type: str, *, narrowing: str) -> int: ...
def matrix_bytes(kind: int, num_outputs: int, num_inputs: int) -> int: ...
def pack(
    device: CpuDevice,
    *,
    type: str,
    narrowing: str,
    source: ByteArray,
    num_outputs: int,
    num_inputs: int,
    target: ByteArray,
) -> None: ...

class Tuning:
    prefetch_bytes: int
    row_block: int
    min_tile_rows: int
    first_eighths: int
    rest_chunks: int
    def __init__(
        self, *, prefetch_bytes: int, row_block: int, min_tile_rows: int, first_eighths: int, rest_chunks: int
    ) -> None: ...

def default_tuning(isa: str) -> Tuning: ...

class CpuDevice:
    isa: str
    num_threads: int
    def __init__(self, *, num_threads: int, isa: str, scratch_bytes: int, tuning: Tuning) -> None: ...
    def reserve_scratch(self, num_bytes: int) -> None: ...
    def measure_read_bandwidth(self, num_bytes: int) -> float: ...

class MappedPanels:
    def __init__(self, *, descriptor: int, offset: int, num_bytes: int) -> None: ...
    @property
    def data(self) -> ByteArray: ...
    def begin(self) -> None: ...
    def settle(self, seconds: float) -> bool: ...

class Matrix:
    def __init__(self, *, data: int, kind: int, num_outputs: int, num_inputs: int, bias: int) -> None: ...

class AttentionArgs:
    def __init__(
        self,
        *,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        rotary_dim: int,
        layer: int,
        group: int,
        window: int,
        max_splits: int,
        scale: float,
        kv_type: str,
        interleaved: bool,
        is_causal: bool,
        quantize: bool,
    ) -> None: ...

class Encoder:
    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def embedding(
        self, barrier: bool, *, table: Matrix, source: str, first_row: int, scale: float, y: Place
    ) -> None: ...
    def rope_table(self, barrier: bool, *, frequencies: int, num_frequencies: int, scale: float, y: Place) -> None: ...
    def norm(
        self,
        barrier: bool,
        *,
        weight_and_bias: tuple[int, int],
        size: int,
        num_groups: int,
        weight_offset: float,
        eps: float,
        x: Place,
        residual_and_sum: tuple[Place, Place],
        has_residual: bool,
        y: Place,
        y_type: str,
        rows: str,
    ) -> None: ...
    def quantize(self, barrier: bool, *, size: int, x: Place, y: Place, y_type: str, rows: str) -> None: ...
    def linear(
        self,
        barrier: bool,
        *,
        segments: Sequence[Matrix],
        y: Sequence[Place],
        x: Place,
        terms: Sequence[int],
        activation: str | None,
        y_type: str,
        rows: str,
    ) -> None: ...
    def rope(
        self,
        barrier: bool,
        *,
        num_heads: int,
        head_dim: int,
        rotary_dim: int,
        interleaved: bool,
        x: Place,
        table: Place,
        y: Place,
    ) -> None: ...
    def attention(
        self,
        barrier: bool,
        *,
        args: AttentionArgs,
        qkv: Sequence[Place],
        table: Place,
        y: Place,
        partial: Place,
        bias: tuple[int, int, int] | None,
    ) -> None: ...
    def add(self, barrier: bool, *, size: int, a: Place, b: Place, y: Place, rows: str) -> None: ...
    def activate(
        self,
        barrier: bool,
        *,
        kind: str,
        size: int,
        x: Place,
        factor: Place | None,
        y: Place,
        y_type: str,
        rows: str,
    ) -> None: ...
    def gather_rows(self, barrier: bool, *, size: int, x: Place, y: Place) -> None: ...
    def pool(self, barrier: bool, *, mode: str, size: int, x: Place, y: Place) -> None: ...
    def l2_normalize(self, barrier: bool, *, size: int, x: Place, y: Place, rows: str) -> None: ...
    def token_logprob(self, barrier: bool, *, head: Matrix, terms: int, x: Place, partial: Place, y: Place) -> None: ...
    def sample(
        self,
        barrier: bool,
        *,
        vocab_size: int,
        logits: Place,
        ids: Place,
        logprobs: Place,
        top_ids: Place,
        top_logprobs: Place,
    ) -> None: ...

class StepArrays:
    def __init__(
        self,
        token_ids: Int32Array,
        positions: Int32Array,
        query_offsets: Int32Array,
        kv_lengths: Int32Array,
        block_tables: Sequence[Int32Array],
        logit_rows: Int32Array,
        targets: Int32Array | None,
        token_type_ids: Int32Array | None,
        sampling: SamplingArrays | None,
    ) -> None: ...

class KVBlocks:
    def __init__(
        self,
        *,
        addresses: Sequence[int],
        strides: Sequence[int],
        run_blocks: Sequence[int],
        num_blocks: Sequence[int],
    ) -> None: ...

class Program:
    def __init__(
        self, device: CpuDevice, encoder: Encoder, limits: tuple[int, int, int, int, int], arena: ByteArray
    ) -> None: ...
    def run(self, step: StepArrays, cache: KVBlocks) -> None: ...
    def set_matrix(self, index: int, segment: int, matrix: Matrix) -> None: ...
    def take_seconds(self) -> list[float]: ...
    def take_op_seconds(self) -> list[tuple[float, float]]: ...
    def set_timing(self, enabled: bool) -> None: ...
