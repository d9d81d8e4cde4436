"""What the encoding of ops shares: places in the arena, barriers, weights, and the record under construction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from lepton_ai.backends.base import Float32Array
from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.attention_bias import AttentionBias
from lepton_ai.backends.cpu.hazards import Hazards, Span
from lepton_ai.backends.cpu.packing import PackedWeights
from lepton_ai.backends.cpu.tuning import Tuning
from lepton_ai.graph.attrs import Attrs, KVSpec
from lepton_ai.graph.node import Node
from lepton_ai.graph.passes.plan import Plan
from lepton_ai.graph.tensor import DType, Tensor, Weight, round_up, symbol

Place = tuple[int, int]
AttrsT = TypeVar("AttrsT", bound=Attrs)

_ROW_SYMBOLS = ("T", "R", "S")


@dataclass(frozen=True, slots=True)
class MatrixUse:
    """A place in the program that multiplies a matrix by rows of type ``read_as``, for ``set_weight``."""

    index: int
    segment: int
    bias: str | None
    read_as: DType


@dataclass(slots=True)
class EncodingState:
    """A program as it is encoded, and what has been asked for it so far."""

    plan: Plan
    weights: PackedWeights
    tuning: Tuning
    encoder: _native.Encoder = field(default_factory=_native.Encoder)
    hazards: Hazards = field(default_factory=Hazards)
    extra: dict[int, Place] = field(default_factory=dict)
    groups: Mapping[KVSpec, int] = field(default_factory=dict)
    splits: Place = (0, 0)
    arena_bytes: int = 0
    scratch_bytes: int = 0
    uses: dict[str, list[MatrixUse]] = field(default_factory=dict)
    biases: dict[str, AttentionBias] = field(default_factory=dict)
    keep_alive: list[Float32Array] = field(default_factory=list)
    owners: list[Node | None] = field(default_factory=list)

    def own_records(self, node: Node | None) -> None:
        """Note that the records since the last call are those of ``node``; None stands for the choice of tokens."""
        self.owners += [node] * (len(self.encoder) - len(self.owners))

    def place(self, tensor: Tensor) -> Place:
        """Where the tensor lies in the arena."""
        if tensor.id in self.extra:
            return self.extra[tensor.id]
        buffer = self.plan.buffers[tensor.id]
        return buffer.offset, buffer.row_bytes

    def span(self, tensor: Tensor) -> Span:
        """The bytes it takes there; none for inputs of the graph, which no op writes."""
        if tensor.id in self.extra:
            return Span(0, 0)
        buffer = self.plan.buffers[tensor.id]
        return Span(buffer.offset, buffer.offset + buffer.num_bytes)

    def reserve(self, num_rows: int, stride: int) -> Place:
        """A buffer of its own behind the planned arena."""
        offset = round_up(self.arena_bytes, 64)
        self.arena_bytes = offset + num_rows * stride
        return offset, stride

    def barrier(self, node: Node) -> bool:
        """Whether the threads meet before this node. Graph inputs are not in the arena and never written."""
        reads = [self.span(t) for t in node.inputs if t.id in self.plan.buffers]
        return self.hazards.step(reads, [self.span(t) for t in node.outputs])

    def matrix(self, name: str, bias: str | None, *, segment: int, read_as: DType) -> _native.Matrix:
        """A matrix for the record that is about to be added."""
        self.uses.setdefault(name, []).append(MatrixUse(len(self.encoder), segment, bias, read_as))
        return self.weights.matrices[name].native(None if bias is None else self.weights.vectors[bias])

    def need_scratch(self, num_bytes: int) -> None:
        """Ask for this much working memory in each thread."""
        self.scratch_bytes = max(self.scratch_bytes, num_bytes)

    def vector(self, weight: Weight) -> int:
        """The address of the f32 values of a weight of one axis."""
        return self.weights.vectors[weight.name].ctypes.data


def attrs_of(node: Node, kind: type[AttrsT]) -> AttrsT:
    """The attributes of ``node``, which are of ``kind``."""
    assert isinstance(node.attrs, kind), f"{node.name}: {node.op} has attributes {node.attrs}"
    return node.attrs


def columns(tensor: Tensor) -> int:
    """The size of the last axis."""
    size = tensor.shape[-1]
    assert isinstance(size, int)
    return size


def row_symbol(tensor: Tensor) -> str:
    """What a tensor has a row for: each token (T), each wanted row (R) or each sequence (S)."""
    (name,) = (name for name in _ROW_SYMBOLS if tensor.shape[0] == symbol(name))
    return name
