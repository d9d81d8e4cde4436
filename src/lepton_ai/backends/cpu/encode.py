"""Encoding: a planned graph becomes the flat list of records that the native executor walks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lepton_ai.backends.base import MAX_LOGPROBS, Float32Array
from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.attention_bias import AttentionBias
from lepton_ai.backends.cpu.encode_attention import encode_attention, reserve_splits
from lepton_ai.backends.cpu.encoding_state import EncodingState, MatrixUse, Place, attrs_of, columns, row_symbol
from lepton_ai.backends.cpu.packing import PackedWeights
from lepton_ai.backends.cpu.tuning import Tuning
from lepton_ai.errors import UnsupportedModel
from lepton_ai.graph.attrs import (
    ActivatedLinearAttrs,
    ActivationAttrs,
    EmbeddingAttrs,
    LinearAttrs,
    NormAttrs,
    NormKind,
    PoolAttrs,
    RopeAttrs,
    RopeTableAttrs,
    kv_groups,
)
from lepton_ai.graph.node import Node, segment_weights
from lepton_ai.graph.passes.plan import Plan
from lepton_ai.graph.passes.precision import kv_specs
from lepton_ai.graph.tensor import Q8_GROUP, ROTATION, DType, Tensor, evaluate_shape, round_up, row_bytes

LOGITS = "logits"
"""The output that tokens are sampled from."""

MAX_SEGMENTS = 4
"""Matrices of one record, as in native/step.h."""

_ID_SOURCES = ("token_ids", "positions", "token_type_ids")
_SLICE_TOKENS = 1024  # as in native/kernels/head.inc.cpp
_TILE_PANELS = 2  # the largest of native/kernels/dot_*.h


@dataclass(frozen=True, slots=True)
class SampleBuffers:
    """Places of the sampler's outputs in the arena: rows of ``[R, 1]`` and ``[R, MAX_LOGPROBS]``."""

    token_ids: Place
    logprobs: Place
    top_ids: Place
    top_logprobs: Place


@dataclass(slots=True)
class EncodedProgram:
    """Records, and what Python needs to run them. ``owners`` are the nodes that records were made of, None for the
    choice of tokens; ``keep_alive`` owns memory that records point to."""

    encoder: _native.Encoder
    arena_bytes: int
    scratch_bytes: int
    input_places: Mapping[str, Place]
    sample: SampleBuffers | None
    uses: Mapping[str, list[MatrixUse]]
    biases: Mapping[str, AttentionBias]
    keep_alive: list[Float32Array]
    owners: Sequence[Node | None]


def encode(plan: Plan, weights: PackedWeights, tuning: Tuning) -> EncodedProgram:
    """The program of ``plan``, with what ``tuning`` needs. Raises UnsupportedModel for shapes without a kernel."""
    state = EncodingState(plan, weights, tuning, arena_bytes=plan.arena_bytes)
    state.groups = {spec: index for index, spec in enumerate(kv_groups(kv_specs(plan.graph)))}
    state.splits = reserve_splits(state)
    inputs = {t.name: _reserve_input(state, t) for t in plan.graph.inputs if t.dtype is DType.F32}
    for node in plan.graph.nodes:
        _ENCODERS[node.op](state, node)
        state.own_records(node)
    sample = _encode_sample(state)
    state.own_records(None)
    return EncodedProgram(
        state.encoder,
        state.arena_bytes,
        state.scratch_bytes,
        inputs,
        sample,
        state.uses,
        state.biases,
        state.keep_alive,
        state.owners,
    )


def _reserve_input(state: EncodingState, tensor: Tensor) -> Place:
    limits = state.plan.limits
    sizes = {"T": limits.max_tokens, "R": limits.max_rows, "S": limits.max_seqs}
    num_rows, num_columns = evaluate_shape(tensor.shape, sizes)
    state.extra[tensor.id] = state.reserve(num_rows, row_bytes(tensor.dtype, num_columns))
    return state.extra[tensor.id]


def _embedding(state: EncodingState, node: Node) -> None:
    table = state.matrix(node.weights[0].name, None, segment=0, read_as=DType.F32)
    attrs, source = attrs_of(node, EmbeddingAttrs), node.inputs[0].name
    if source not in _ID_SOURCES:
        raise UnsupportedModel(f"{node.name}: expected an embedding of {', '.join(_ID_SOURCES)}, got one of {source}")
    state.encoder.embedding(
        state.barrier(node),
        table=table,
        source=source,
        first_row=attrs.first_row,
        scale=attrs.scale,
        y=state.place(node.outputs[0]),
    )


def _rope_table(state: EncodingState, node: Node) -> None:
    attrs = attrs_of(node, RopeTableAttrs)
    frequencies = np.asarray(attrs.inverse_frequencies, np.float32)
    state.keep_alive.append(frequencies)
    state.encoder.rope_table(
        state.barrier(node),
        frequencies=frequencies.ctypes.data,
        num_frequencies=len(frequencies),
        scale=attrs.scale,
        y=state.place(node.outputs[0]),
    )


def _norm(state: EncodingState, node: Node) -> None:
    attrs = attrs_of(node, NormAttrs)
    has_residual = node.op == "add_norm"
    x, y = node.inputs[0], node.outputs[-1]
    none: Place = (0, 0)
    pair = (state.place(node.inputs[1]), state.place(node.outputs[0])) if has_residual else (none, none)
    state.need_scratch(4 * round_up(columns(x), 64))
    state.encoder.norm(
        state.barrier(node),
        weight_and_bias=(
            state.vector(node.weights[0]),
            state.vector(node.weights[1]) if attrs.kind is NormKind.LAYER else 0,
        ),
        size=columns(x) // attrs.num_groups,
        num_groups=attrs.num_groups,
        weight_offset=attrs.weight_offset,
        eps=attrs.eps,
        x=state.place(x),
        residual_and_sum=pair,
        has_residual=has_residual,
        y=state.place(y),
        y_type=y.dtype.value,
        rows=row_symbol(x),
    )


def _linear(state: EncodingState, node: Node) -> None:
    """One record for up to four segments; they read the same rows and meet nobody in between."""
    assert isinstance(node.attrs, LinearAttrs | ActivatedLinearAttrs)
    x, barrier = node.inputs[0], state.barrier(node)
    parts = list(segment_weights(node))
    y_type = node.outputs[0].dtype
    panels = _unit_panels(y_type) * len(parts) if isinstance(node.attrs, ActivatedLinearAttrs) else _TILE_PANELS
    for first in range(0, len(parts), MAX_SEGMENTS):
        chosen = parts[first : first + MAX_SEGMENTS]
        terms = [segment.num_terms for segment, _, _ in chosen]
        state.need_scratch(panels * state.tuning.row_block * 64)
        state.encoder.linear(
            barrier and first == 0,
            segments=[
                state.matrix(
                    matrix.name,
                    bias.name if bias else None,
                    segment=i,
                    read_as=x.dtype if segment.num_terms else DType.F32,
                )
                for i, (segment, matrix, bias) in enumerate(chosen)
            ],
            y=[state.place(t) for t in node.outputs[first : first + MAX_SEGMENTS]],
            x=state.place(x),
            terms=terms,
            activation=node.attrs.kind.value if isinstance(node.attrs, ActivatedLinearAttrs) else None,
            y_type=y_type.value,
            rows=row_symbol(x),
        )


def _unit_panels(y_type: DType) -> int:
    """Panels whose activated outputs are quantised together (native/kernels/linear.inc.cpp)."""
    return (ROTATION if y_type is DType.R8 else Q8_GROUP) // 16


def _quantize(state: EncodingState, node: Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    if y.dtype is DType.R8_ROW:
        state.need_scratch(columns(x) * 4)
    state.encoder.quantize(
        state.barrier(node),
        size=columns(x),
        x=state.place(x),
        y=state.place(y),
        y_type=y.dtype.value,
        rows=row_symbol(x),
    )


def _rope(state: EncodingState, node: Node) -> None:
    attrs = attrs_of(node, RopeAttrs)
    x, table = node.inputs
    state.encoder.rope(
        state.barrier(node),
        num_heads=columns(x) // attrs.head_dim,
        head_dim=attrs.head_dim,
        rotary_dim=columns(table),
        interleaved=attrs.interleaved,
        x=state.place(x),
        table=state.place(table),
        y=state.place(node.outputs[0]),
    )


def _add(state: EncodingState, node: Node) -> None:
    a, b = node.inputs
    state.encoder.add(
        state.barrier(node),
        size=columns(a),
        a=state.place(a),
        b=state.place(b),
        y=state.place(node.outputs[0]),
        rows=row_symbol(a),
    )


def _activate(state: EncodingState, node: Node) -> None:
    """``activate``, and ``gated`` with its second input."""
    x, y = node.inputs[0], node.outputs[0]
    state.need_scratch(4 * round_up(columns(x), 64))
    state.encoder.activate(
        state.barrier(node),
        kind=attrs_of(node, ActivationAttrs).kind.value,
        size=columns(x),
        x=state.place(x),
        factor=state.place(node.inputs[1]) if node.op == "gated" else None,
        y=state.place(y),
        y_type=y.dtype.value,
        rows=row_symbol(x),
    )


def _gather_rows(state: EncodingState, node: Node) -> None:
    x = node.inputs[0]
    state.encoder.gather_rows(state.barrier(node), size=columns(x), x=state.place(x), y=state.place(node.outputs[0]))


def _pool(state: EncodingState, node: Node) -> None:
    x = node.inputs[0]
    mode = attrs_of(node, PoolAttrs).mode.value
    y = state.place(node.outputs[0])
    state.encoder.pool(state.barrier(node), mode=mode, size=columns(x), x=state.place(x), y=y)


def _l2_normalize(state: EncodingState, node: Node) -> None:
    x = node.inputs[0]
    y = state.place(node.outputs[0])
    state.encoder.l2_normalize(state.barrier(node), size=columns(x), x=state.place(x), y=y, rows=row_symbol(x))


def _token_logprob(state: EncodingState, node: Node) -> None:
    x, matrix = node.inputs[0], node.weights[0]
    slices = -(-matrix.shape[0] // _SLICE_TOKENS)
    partial = state.reserve(state.plan.limits.max_rows, round_up((2 * slices + 1) * 4, 64))
    terms = attrs_of(node, LinearAttrs).segments[0].num_terms
    state.need_scratch(state.tuning.row_block * 64)
    head = state.matrix(matrix.name, None, segment=0, read_as=x.dtype)
    state.encoder.token_logprob(
        state.barrier(node),
        head=head,
        terms=terms,
        x=state.place(x),
        partial=partial,
        y=state.place(node.outputs[0]),
    )


def _encode_sample(state: EncodingState) -> SampleBuffers | None:
    """The choice of tokens, if the graph ends in logits."""
    logits = next((t for t in state.plan.graph.outputs if t.name == LOGITS), None)
    if logits is None:
        return None
    vocab_size, rows = columns(logits), state.plan.limits.max_rows
    wide = 4 * MAX_LOGPROBS
    buffers = SampleBuffers(
        state.reserve(rows, 4), state.reserve(rows, 4), state.reserve(rows, wide), state.reserve(rows, wide)
    )
    state.need_scratch(12 * vocab_size)
    state.encoder.sample(
        state.hazards.step([state.span(logits)], []),
        vocab_size=vocab_size,
        logits=state.place(logits),
        ids=buffers.token_ids,
        logprobs=buffers.logprobs,
        top_ids=buffers.top_ids,
        top_logprobs=buffers.top_logprobs,
    )
    return buffers


_ENCODERS: Mapping[str, Callable[[EncodingState, Node], None]] = {
    "embedding": _embedding,
    "rope_table": _rope_table,
    "rms_norm": _norm,
    "layer_norm": _norm,
    "add_norm": _norm,
    "linear": _linear,
    "activated_linear": _linear,
    "gated_linear": _linear,
    "quantize": _quantize,
    "rope": _rope,
    "attention": encode_attention,
    "add": _add,
    "activate": _activate,
    "gated": _activate,
    "gather_rows": _gather_rows,
    "pool": _pool,
    "l2_normalize": _l2_normalize,
    "token_logprob": _token_logprob,
}
