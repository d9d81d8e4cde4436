"""Encoding of attention: its record, the scratch that its kernels carve up, and room for splits over threads."""

from __future__ import annotations

from lepton_ai.backends.base import BLOCK_SIZE
from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.attention_bias import AttentionBias
from lepton_ai.backends.cpu.encoding_state import EncodingState, Place, attrs_of, columns
from lepton_ai.errors import UnsupportedModel
from lepton_ai.graph.attrs import AttentionAttrs
from lepton_ai.graph.node import Node
from lepton_ai.graph.passes.plan import Plan
from lepton_ai.graph.tensor import Q8_GROUP, round_up

_QUERY_ROWS = 192  # the largest of native/kernels/attention_softmax.inc.cpp
_MAX_GROUP_HEADS = 96  # the smallest of them
_SPLIT_TOKENS = 8
_SPLIT_KEYS = 256  # as in native/kernels/attention_tile.h, like _KEY_TILE
_KEY_TILE = 64
_SCORE_PADDING = 16  # beside rows of scores and of weights: see native/kernels/attention_codes.h
_WEIGHT_PADDING = 64
_MAX_HEAD_DIM = 256


def encode_attention(state: EncodingState, node: Node) -> None:
    """The records of one attention. Raises UnsupportedModel for heads that kernels do not have."""
    attrs = attrs_of(node, AttentionAttrs)
    head_dim, num_kv_heads = attrs.kv.head_dim, attrs.kv.num_heads
    if head_dim % 16 or head_dim > _MAX_HEAD_DIM:
        raise UnsupportedModel(f"{node.name}: expected a head size of 16 ... 256 in steps of 16, got {head_dim}")
    heads = attrs.num_heads // num_kv_heads
    if heads > _MAX_GROUP_HEADS:
        raise UnsupportedModel(
            f"{node.name}: expected at most {_MAX_GROUP_HEADS} query heads for a KV head, got {heads}"
        )
    scores = _KEY_TILE + _SPLIT_KEYS + _SCORE_PADDING + _SPLIT_KEYS // BLOCK_SIZE
    floats = 3 * _QUERY_ROWS * head_dim + _QUERY_ROWS * scores + 2 * _KEY_TILE * head_dim
    state.need_scratch(4 * floats + 2 * _QUERY_ROWS * (round_up(head_dim, Q8_GROUP) + _SPLIT_KEYS + _WEIGHT_PADDING))
    table = node.inputs[3] if attrs.rope else None
    args = _native.AttentionArgs(
        num_heads=attrs.num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        rotary_dim=0 if table is None else columns(table),
        layer=attrs.layer,
        group=state.groups[attrs.kv],
        window=attrs.kv.window or 0,
        max_splits=_max_splits(state.plan),
        scale=attrs.scale,
        kv_type=attrs.kv.dtype.value,
        interleaved=attrs.rope.interleaved if attrs.rope else False,
        is_causal=attrs.is_causal,
        quantize=attrs.quantize,
    )
    barrier = state.barrier(node)
    state.hazards.meet()  # the records of an attention meet before keys are read, and before splits are merged
    state.hazards.step([state.span(t) for t in node.inputs], [state.span(t) for t in node.outputs])
    state.encoder.attention(
        barrier,
        args=args,
        qkv=[state.place(t) for t in node.inputs[:3]],
        table=(0, 0) if table is None else state.place(table),
        y=state.place(node.outputs[0]),
        partial=state.splits,
        bias=_bias(state, node),
    )


def _bias(state: EncodingState, node: Node) -> tuple[int, int, int] | None:
    """The biases of an attention; layers with the same table share one layout of it."""
    buckets = attrs_of(node, AttentionAttrs).buckets
    if buckets is None:
        return None
    name = node.weights[0].name
    if name not in state.biases:
        table = state.weights.vectors[name]
        state.biases[name] = AttentionBias(table, buckets, state.plan.limits.max_model_len)
    return state.biases[name].native


def _max_splits(plan: Plan) -> int:
    return -(-plan.limits.max_model_len // _SPLIT_KEYS)


def reserve_splits(state: EncodingState) -> Place:
    """Results of the splits of one attention. All use it in turn: each meets before keys are read, so none is left."""
    attrs = [node.attrs for node in state.plan.graph.nodes if isinstance(node.attrs, AttentionAttrs)]
    sizes = (a.num_heads * (a.kv.head_dim + 2) * 4 for a in attrs)
    return state.reserve(_SPLIT_TOKENS, _max_splits(state.plan) * max(sizes, default=0))
