"""The Llama forward (Touvron et al. 2023), for the architectures ``llama`` and ``qwen2`` of GGUF files.

Pre-norm decoder: RMS norms, rotary positions, grouped-query attention, SwiGLU. Qwen2 adds biases to q, k and v.
``llama`` files store q and k permuted, so that rotary pairs are neighbours; ``qwen2`` files pair (i, i + D/2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.graph import ops
from lepton_ai.graph.attrs import KVSpec
from lepton_ai.graph.graph import Graph
from lepton_ai.graph.tensor import DType, Weight, symbol
from lepton_ai.graph.trace import Trace, Value
from lepton_ai.models.base import LOGIT_ROWS, POSITIONS, TARGETS, TOKEN_IDS, Head, ModelConfig
from lepton_ai.models.metadata import Hyperparameters, Metadata
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.store import WeightStore

ARCHITECTURES = ("llama", "qwen2")

_EMBEDDING, _HEAD, _ROPE_FACTORS = "token_embd.weight", "output.weight", "rope_freqs.weight"

_MAX_LAYERS, _MAX_HIDDEN, _MAX_FEED_FORWARD, _MAX_HEADS = 1024, 1 << 17, 1 << 20, 1024
_MAX_HEAD_DIM, _MAX_VOCAB, _MAX_CONTEXT = 1024, 1 << 22, 1 << 24

_REFUSED = (
    "expert_count",
    "attention.sliding_window",
    "attention.scale",
    "attention.clamp_kqv",
    "logit_scale",
    "embedding_scale",
    "residual_scale",
    "rope.scale_linear",
)


@dataclass(frozen=True, slots=True)
class LlamaConfig(ModelConfig):
    """Hyper-parameters of one checkpoint. ``inverse_frequencies`` are the ``D/2`` f32 values of the rotary table."""

    feed_forward_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_eps: float
    inverse_frequencies: tuple[float, ...]
    is_rope_interleaved: bool
    has_qkv_bias: bool
    is_head_tied: bool

    @property
    def kv(self) -> KVSpec:
        """The cache of every layer."""
        return KVSpec(self.num_kv_heads, self.head_dim)


def parse(metadata: Metadata, store: WeightStore) -> LlamaModel:
    """The model of a ``llama`` or ``qwen2`` checkpoint. Raises InvalidModel or UnsupportedModel, naming the key."""
    architecture = metadata.get_str("general.architecture")
    params = Hyperparameters(metadata, architecture)
    _refuse_unsupported(params)
    hidden_size = params.count("embedding_length", _MAX_HIDDEN)
    num_heads = params.count("attention.head_count", _MAX_HEADS)
    num_kv_heads = params.count("attention.head_count_kv", _MAX_HEADS, default=num_heads)
    if num_heads % num_kv_heads:
        raise params.wrong("attention.head_count_kv", f"a divisor of {num_heads} heads", num_kv_heads)
    head_dim = _head_dim(params, hidden_size, num_heads)
    names = frozenset(store.names())
    config = LlamaConfig(
        architecture=architecture,
        vocab_size=_vocab_size(params, store),
        context_length=params.count("context_length", _MAX_CONTEXT),
        num_layers=params.count("block_count", _MAX_LAYERS),
        hidden_size=hidden_size,
        feed_forward_size=params.count("feed_forward_length", _MAX_FEED_FORWARD),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        norm_eps=params.positive("attention.layer_norm_rms_epsilon", 1.0),
        inverse_frequencies=_inverse_frequencies(params, head_dim, store if _ROPE_FACTORS in names else None),
        is_rope_interleaved=architecture == "llama",
        has_qkv_bias=architecture == "qwen2",
        is_head_tied=_HEAD not in names,
    )
    return LlamaModel(config)


def _refuse_unsupported(params: Hyperparameters) -> None:
    params.refuse_options(_REFUSED)
    scaling = params.metadata.get_str(params.key("rope.scaling.type"), "none")
    if scaling != "none":
        raise UnsupportedModel(
            f"{params.key('rope.scaling.type')}: expected 'none' or no such key, got {scaling[:64]!r}", param="model"
        )
    factor = params.metadata.get_float(params.key("rope.scaling.factor"), 1.0)
    if factor not in (0.0, 1.0):
        raise UnsupportedModel(f"{params.key('rope.scaling.factor')}: expected 1, got {factor:g}", param="model")


def _head_dim(params: Hyperparameters, hidden_size: int, num_heads: int) -> int:
    if "attention.key_length" in params:
        head_dim = params.count("attention.key_length", _MAX_HEAD_DIM)
    else:
        head_dim, rest = divmod(hidden_size, num_heads)
        if rest:
            raise params.wrong("attention.head_count", f"a divisor of embedding_length {hidden_size}", num_heads)
    if head_dim % 2 or not 2 <= head_dim <= _MAX_HEAD_DIM:
        raise params.wrong("attention.key_length", f"an even number from 2 to {_MAX_HEAD_DIM}", head_dim)
    value_length = params.count("attention.value_length", _MAX_HEAD_DIM, default=head_dim)
    if value_length != head_dim:
        raise params.wrong("attention.value_length", f"the key length {head_dim}", value_length)
    rotated = params.count("rope.dimension_count", _MAX_HEAD_DIM, default=head_dim)
    if rotated != head_dim:
        raise UnsupportedModel(
            f"{params.key('rope.dimension_count')}: expected all {head_dim} elements of a head, got {rotated}",
            param="model",
        )
    return head_dim


def _vocab_size(params: Hyperparameters, store: WeightStore) -> int:
    shape = store.get(_EMBEDDING).shape
    if len(shape) != 2 or not 1 <= shape[0] <= _MAX_VOCAB:
        raise InvalidModel(f"{_EMBEDDING}: expected 1 to {_MAX_VOCAB} rows, got shape {shape}", param="model")
    declared = params.count("vocab_size", _MAX_VOCAB, default=shape[0])
    if declared != shape[0]:
        raise params.wrong("vocab_size", f"the {shape[0]} rows of {_EMBEDDING}", declared)
    return shape[0]


def _inverse_frequencies(params: Hyperparameters, head_dim: int, factors: WeightStore | None) -> tuple[float, ...]:
    """``1 / (base ** (2i / D))``, divided by the checkpoint's frequency factors if it has any (Llama 3.1).

    Models were trained with each operation rounded to f32. The power is computed in f64 and then rounded: NumPy's own
    f32 power is off by a bit in a fifth of the values, which turns pairs noticeably at far positions.
    """
    base = params.positive("rope.freq_base", 1e12, default=10000.0)
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequencies = np.float32(1.0) / np.power(base, exponents.astype(np.float64)).astype(np.float32)
    if factors is not None:
        frequencies = frequencies / _read_rope_factors(factors, head_dim // 2)
    return tuple(float(f) for f in frequencies)


def _read_rope_factors(store: WeightStore, num_pairs: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    stored = store.get(_ROPE_FACTORS)
    if stored.type is not WeightType.F32 or stored.shape != (num_pairs,):
        raise InvalidModel(
            f"{_ROPE_FACTORS}: expected F32 ({num_pairs},), got {stored.type.value} {stored.shape}", param="model"
        )
    values = stored.data.view("<f4").astype(np.float32)
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise InvalidModel(f"{_ROPE_FACTORS}: expected positive finite factors", param="model")
    return values.reshape(num_pairs)


@dataclass(frozen=True, slots=True)
class LlamaModel:
    """A Llama-type checkpoint, ready to trace. Tensors are called ``blk.3.attn_norm`` and so on."""

    config: LlamaConfig

    def kv_specs(self) -> tuple[KVSpec, ...]:
        """The cache of each layer."""
        return (self.config.kv,) * self.config.num_layers

    def ignorable_names(self) -> Sequence[str]:
        """The rotary factors: they are read when the model is parsed, not by the graph."""
        return (_ROPE_FACTORS,)

    def build(self, *, head: Head) -> Graph:
        """Trace the forward. The final norm sees only the rows whose logits are wanted."""
        config, trace = self.config, Trace()
        num_tokens, num_rows = symbol("T"), symbol("R")
        token_ids = trace.input(TOKEN_IDS, (num_tokens,), DType.I32)
        positions = trace.input(POSITIONS, (num_tokens,), DType.I32)
        logit_rows = trace.input(LOGIT_ROWS, (num_rows,), DType.I32)
        embedding_table = Weight(_EMBEDDING, (config.vocab_size, config.hidden_size))
        x = ops.embedding(token_ids, embedding_table, name="token_embd")
        table = ops.rope_table(positions, config.inverse_frequencies, name="rope_table")
        for layer in range(config.num_layers):
            x = self._attention_block(x, table, layer)
            x = self._feed_forward_block(x, layer)
        x = ops.gather_rows(x, logit_rows, name="output_rows")
        x = self._norm(x, "output_norm")
        head_matrix = embedding_table if config.is_head_tied else Weight(_HEAD, embedding_table.shape)
        if head == "logits":
            return trace.finish([ops.linear(x, head_matrix, name=head)])
        targets = trace.input(TARGETS, (num_rows,), DType.I32)
        return trace.finish([ops.token_logprob(x, head_matrix, targets, name=head)])

    def _attention_block(self, x: Value, table: Value, layer: int) -> Value:
        config, block = self.config, f"blk.{layer}"
        query_size, kv_size = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        h = self._norm(x, f"{block}.attn_norm")
        q = self._linear(h, f"{block}.attn_q", query_size, has_bias=config.has_qkv_bias)
        k = self._linear(h, f"{block}.attn_k", kv_size, has_bias=config.has_qkv_bias)
        v = self._linear(h, f"{block}.attn_v", kv_size, has_bias=config.has_qkv_bias)
        attended = ops.attention(
            self._rope(q, table, f"{block}.attn_q_rope"),
            self._rope(k, table, f"{block}.attn_k_rope"),
            v,
            num_heads=config.num_heads,
            kv=config.kv,
            layer=layer,
            scale=1.0 / math.sqrt(config.head_dim),
            name=f"{block}.attn",
        )
        projected = self._linear(attended, f"{block}.attn_output", config.hidden_size)
        return ops.add(x, projected, name=f"{block}.attn_residual")

    def _feed_forward_block(self, x: Value, layer: int) -> Value:
        config, block = self.config, f"blk.{layer}"
        h = self._norm(x, f"{block}.ffn_norm")
        gate = self._linear(h, f"{block}.ffn_gate", config.feed_forward_size)
        up = self._linear(h, f"{block}.ffn_up", config.feed_forward_size)
        activated = ops.silu_mul(gate, up, name=f"{block}.ffn_act")
        down = self._linear(activated, f"{block}.ffn_down", config.hidden_size)
        return ops.add(x, down, name=f"{block}.ffn_residual")

    def _norm(self, x: Value, name: str) -> Value:
        weight = Weight(f"{name}.weight", (self.config.hidden_size,))
        return ops.rms_norm(x, weight, eps=self.config.norm_eps, name=name)

    def _linear(self, x: Value, name: str, num_outputs: int, *, has_bias: bool = False) -> Value:
        num_inputs = x.shape[-1]
        assert isinstance(num_inputs, int)
        bias = Weight(f"{name}.bias", (num_outputs,)) if has_bias else None
        return ops.linear(x, Weight(f"{name}.weight", (num_outputs, num_inputs)), name=name, bias=bias)

    def _rope(self, x: Value, table: Value, name: str) -> Value:
        config = self.config
        return ops.rope(x, table, head_dim=config.head_dim, interleaved=config.is_rope_interleaved, name=name)
