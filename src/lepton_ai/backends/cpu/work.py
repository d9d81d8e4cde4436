"""How much work a step is: what each record of a program has to read, write and multiply at the least."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from lepton_ai.backends.base import StepInputs
from lepton_ai.backends.cpu.encode import LOGITS, MAX_SEGMENTS
from lepton_ai.backends.cpu.encoding_state import attrs_of
from lepton_ai.backends.cpu.packing import PackedWeights
from lepton_ai.graph.attrs import ActivatedLinearAttrs, AttentionAttrs, LinearAttrs, Segment
from lepton_ai.graph.graph import Graph
from lepton_ai.graph.node import Node, segment_weights
from lepton_ai.graph.passes.precision import SUFFIXES
from lepton_ai.graph.passes.rows import ROWS_SUFFIX
from lepton_ai.graph.tensor import Tensor, Weight, evaluate_shape, row_bytes

_ATTENTION_PARTS = ("kv_write", "attention", "attention_merge")
_LOGPROB_PARTS = ("token_logprob", "token_logprob_merge")
_LAYER = re.compile(r"^.*?\.\d+\.")


@dataclass(frozen=True, slots=True)
class StepShape:
    """Tokens that a step computes of each sequence, tokens that the sequence has after it, rows of logits."""

    query_lengths: tuple[int, ...]
    kv_lengths: tuple[int, ...]
    num_rows: int

    @classmethod
    def of(cls, inputs: StepInputs) -> StepShape:
        """That of a step."""
        offsets = inputs.query_offsets.tolist()
        lengths = tuple(end - begin for begin, end in pairwise(offsets))
        return cls(lengths, tuple(inputs.kv_lengths.tolist()), len(inputs.logit_rows))

    @property
    def num_tokens(self) -> int:
        """Those of all sequences."""
        return sum(self.query_lengths)

    @property
    def sizes(self) -> dict[str, int]:
        """The symbols of shapes."""
        return {"T": self.num_tokens, "R": self.num_rows, "S": len(self.query_lengths)}


@dataclass(frozen=True, slots=True)
class Product:
    """Multiply-adds of ``num_rows`` rows by a matrix; by keys and values, in f32, where ``weight`` is None."""

    weight: str | None
    num_rows: int
    macs: int


@dataclass(frozen=True, slots=True)
class Work:
    """The least that an op moves and multiplies in a step.

    ``weight_bytes`` are read, as packed; ``kv_bytes`` read or written; ``activation_bytes``, read and written, can come
    from caches: other ops have just made them. Rows of two terms are multiplied twice.
    """

    weight_bytes: int = 0
    kv_bytes: int = 0
    activation_bytes: int = 0
    products: tuple[Product, ...] = ()

    @property
    def num_bytes(self) -> int:
        """All of them."""
        return self.weight_bytes + self.kv_bytes + self.activation_bytes

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return sum(product.macs for product in self.products)


@dataclass(frozen=True, slots=True)
class CpuOp:
    """A record of a program.

    ``op`` is that of its node, or a part of it where a node has several records; ``name`` is the same in every layer.
    ``part`` counts the records of a node. Where tokens are chosen there is no node, but ``logits``.
    """

    op: str
    name: str
    part: int
    node: Node | None
    logits: Tensor | None
    weights: PackedWeights

    def work(self, shape: StepShape) -> Work:
        """What a step of this shape asks of it."""
        if self.node is None:
            assert self.logits is not None
            return Work(activation_bytes=_num_bytes((self.logits,), shape))
        match self.op:
            case "linear" | "activated_linear" | "gated_linear":
                return self._linear(self.node, shape)
            case "token_logprob":
                return self._head(self.node, shape)
            case "kv_write":
                return _kv_write(self.node, shape)
            case "attention":
                return self._attention(self.node, shape)
            case "attention_merge" | "token_logprob_merge":
                return Work()
            case "embedding":
                return self._embedding(self.node, shape)
            case "gather_rows":
                return Work(activation_bytes=2 * _num_bytes(self.node.outputs, shape))
            case _:
                tensors = (*self.node.inputs, *self.node.outputs)
                return Work(self._weight_bytes(self.node.weights), 0, _num_bytes(tensors, shape))

    def _linear(self, node: Node, shape: StepShape) -> Work:
        assert isinstance(node.attrs, LinearAttrs | ActivatedLinearAttrs)
        chosen = slice(self.part * MAX_SEGMENTS, (self.part + 1) * MAX_SEGMENTS)
        parts = list(segment_weights(node))[chosen]
        outputs = node.outputs[chosen] if isinstance(node.attrs, LinearAttrs) else node.outputs
        return Work(
            weight_bytes=self._weight_bytes([w for _, *both in parts for w in both if w is not None]),
            activation_bytes=_num_bytes((node.inputs[0], *outputs), shape),
            products=tuple(_product(segment, matrix, node, shape) for segment, matrix, _ in parts),
        )

    def _head(self, node: Node, shape: StepShape) -> Work:
        segment = attrs_of(node, LinearAttrs).segments[0]
        return Work(
            weight_bytes=self._weight_bytes(node.weights),
            activation_bytes=_num_bytes(node.inputs[:1], shape),
            products=(_product(segment, node.weights[0], node, shape),),
        )

    def _attention(self, node: Node, shape: StepShape) -> Work:
        attrs = attrs_of(node, AttentionAttrs)
        num_keys = num_pairs = 0
        for num_queries, length in zip(shape.query_lengths, shape.kv_lengths, strict=True):
            num_keys += _keys_read(attrs, num_queries, length)
            num_pairs += sum(_keys_seen(attrs, length - i, length) for i in range(num_queries))
        macs = 2 * num_pairs * attrs.num_heads * attrs.kv.head_dim
        return Work(
            weight_bytes=self._weight_bytes(node.weights),
            kv_bytes=num_keys * attrs.kv.bytes_per_token,
            activation_bytes=_num_bytes((node.inputs[0], *node.inputs[3:], *node.outputs), shape),
            products=(Product(None, shape.num_tokens, macs),),
        )

    def _embedding(self, node: Node, shape: StepShape) -> Work:
        """Only the rows that are looked up."""
        table = node.weights[0]
        read = self._weight_bytes([table]) * shape.num_tokens // table.shape[0]
        return Work(weight_bytes=read, activation_bytes=_num_bytes(node.outputs, shape))

    def _weight_bytes(self, weights: Sequence[Weight]) -> int:
        matrices, vectors = self.weights.matrices, self.weights.vectors
        return sum((matrices[w.name].data if w.name in matrices else vectors[w.name]).nbytes for w in weights)


def describe_ops(graph: Graph, owners: Sequence[Node | None], weights: PackedWeights) -> tuple[CpuOp, ...]:
    """An op for each record of a program; ``owners`` are the nodes that they were made of."""
    logits = next((tensor for tensor in graph.outputs if tensor.name == LOGITS), None)
    ops: list[CpuOp] = []
    for index, node in enumerate(owners):
        if node is None:
            ops.append(CpuOp("sample", "sample", 0, None, logits, weights))
            continue
        part = ops[-1].part + 1 if index and owners[index - 1] is node else 0
        ops.append(CpuOp(_op_name(node, part), _label(node), part, node, None, weights))
    return tuple(ops)


def _op_name(node: Node, part: int) -> str:
    match node.op:
        case "attention":
            return _ATTENTION_PARTS[part]
        case "token_logprob":
            return _LOGPROB_PARTS[part]
        case _:
            return node.op


def _label(node: Node) -> str:
    """What stands for the node in every layer: its outputs, or the matrices of which it makes one output."""
    if isinstance(node.attrs, ActivatedLinearAttrs):
        return _joined([matrix.name.removesuffix(".weight") for _, matrix, _ in segment_weights(node)])
    outputs = node.outputs if node.op == "linear" else node.outputs[-1:]
    return _joined([tensor.name for tensor in outputs])


def _joined(names: Sequence[str]) -> str:
    """``attn_q/k/v`` of ``blk.3.attn_q``, ``blk.3.attn_k`` and ``blk.3.attn_v``."""
    first, *others = (_without_suffix(_LAYER.sub("", name)) for name in names)
    prefix = first[: first.rfind("_") + 1]
    return "/".join([first, *(other.removeprefix(prefix) for other in others)])


def _without_suffix(name: str) -> str:
    for suffix in (*SUFFIXES.values(), ROWS_SUFFIX):
        name = name.removesuffix(suffix)
    return name


def _product(segment: Segment, matrix: Weight, node: Node, shape: StepShape) -> Product:
    num_rows, _ = evaluate_shape(node.inputs[0].shape, shape.sizes)
    return Product(matrix.name, num_rows, num_rows * prod(matrix.shape) * max(1, segment.num_terms))


def _kv_write(node: Node, shape: StepShape) -> Work:
    kv_bytes = shape.num_tokens * attrs_of(node, AttentionAttrs).kv.bytes_per_token
    return Work(kv_bytes=kv_bytes, activation_bytes=_num_bytes(node.inputs[1:], shape))


def _keys_seen(attrs: AttentionAttrs, position: int, length: int) -> int:
    """Keys of a query that is number ``position``, from 1, of a sequence of ``length``."""
    visible = position if attrs.is_causal else length
    return visible if attrs.kv.window is None else min(visible, attrs.kv.window)


def _keys_read(attrs: AttentionAttrs, num_queries: int, length: int) -> int:
    """Keys that any of the last ``num_queries`` of a sequence sees."""
    return length if attrs.kv.window is None else min(length, attrs.kv.window + num_queries - 1)


def _num_bytes(tensors: Sequence[Tensor], shape: StepShape) -> int:
    return sum(_tensor_bytes(tensor, shape.sizes) for tensor in tensors)


def _tensor_bytes(tensor: Tensor, sizes: dict[str, int]) -> int:
    *rows, columns = evaluate_shape(tensor.shape, sizes)
    return prod(rows) * row_bytes(tensor.dtype, columns) if rows else columns * tensor.dtype.itemsize
