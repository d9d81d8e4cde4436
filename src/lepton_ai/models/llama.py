"""The Llama forward (Touvron et al. 2023): Llama, Mistral, Qwen2 and Qwen3.

Pre-norm decoder: RMS norms, rotary positions, grouped-query attention, SwiGLU. Qwen2 adds biases to q, k and v, Qwen3
norms to the heads of q and k; layers may see a window of positions only. GGUF files of ``llama`` store q and k
permuted, so that rotary pairs are neighbours; all others pair (i, i + D/2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lepton_ai.errors import UnsupportedModel
from lepton_ai.graph import ops
from lepton_ai.graph.attrs import Activation, KVSpec
from lepton_ai.graph.graph import Graph
from lepton_ai.graph.tensor import Weight
from lepton_ai.graph.trace import Value
from lepton_ai.models.base import Head, ModelConfig
from lepton_ai.models.decoder import DecoderTrace
from lepton_ai.models.dimensions import (
    EMBEDDING,
    HEAD,
    MAX_CONTEXT,
    MAX_FEED_FORWARD,
    MAX_HEAD_DIM,
    MAX_HEADS,
    MAX_HIDDEN,
    MAX_LAYERS,
    read_vocab_size,
)
from lepton_ai.models.hf import DECODER_NAMES, HFLayout
from lepton_ai.models.hf_config import HFConfig, rope_keys, window_keys
from lepton_ai.models.layers import linear
from lepton_ai.models.metadata import Hyperparameters, Metadata
from lepton_ai.models.rope import ROPE_FACTORS, Rope, read_rope
from lepton_ai.weights.renamed import Rename, one_to_one
from lepton_ai.weights.store import WeightStore

ARCHITECTURES = ("llama", "qwen2", "qwen3")
MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")

_REFUSED = (
    "expert_count",
    "attention.scale",
    "attention.clamp_kqv",
    "logit_scale",
    "embedding_scale",
    "residual_scale",
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_attn_factor",
)


@dataclass(frozen=True, slots=True)
class LlamaConfig(ModelConfig):
    """Hyper-parameters of one checkpoint. ``windows``: how many last positions each layer sees; None for all."""

    feed_forward_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_eps: float
    rope: Rope
    is_rope_interleaved: bool
    has_qkv_bias: bool
    has_qk_norms: bool
    is_head_tied: bool
    windows: tuple[int | None, ...]

    def kv(self, layer: int) -> KVSpec:
        """The cache of a layer."""
        return KVSpec(self.num_kv_heads, self.head_dim, window=self.windows[layer])


def parse(metadata: Metadata, store: WeightStore) -> LlamaModel:
    """The model of a ``llama`` or ``qwen2`` checkpoint. Raises InvalidModel or UnsupportedModel, naming the key."""
    architecture = metadata.get_str("general.architecture")
    params = Hyperparameters(metadata, architecture)
    params.refuse_options(_REFUSED)
    hidden_size = params.count("embedding_length", MAX_HIDDEN)
    num_heads = params.count("attention.head_count", MAX_HEADS)
    num_kv_heads = params.count("attention.head_count_kv", MAX_HEADS, default=num_heads)
    if num_heads % num_kv_heads:
        raise params.wrong("attention.head_count_kv", f"a divisor of {num_heads} heads", num_kv_heads)
    head_dim = _head_dim(params, hidden_size, num_heads)
    num_layers = params.count("block_count", MAX_LAYERS)
    config = LlamaConfig(
        architecture=architecture,
        vocab_size=read_vocab_size(params, store),
        context_length=params.count("context_length", MAX_CONTEXT),
        num_layers=num_layers,
        hidden_size=hidden_size,
        feed_forward_size=params.count("feed_forward_length", MAX_FEED_FORWARD),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        norm_eps=params.positive("attention.layer_norm_rms_epsilon", 1.0),
        rope=read_rope(params, store, head_dim),
        is_rope_interleaved=params.flag("rope.is_interleaved", default=architecture == "llama"),
        has_qkv_bias=architecture == "qwen2",
        has_qk_norms=architecture == "qwen3",
        is_head_tied=params.flag("is_head_tied", default=HEAD not in store.names()),
        windows=params.windows(num_layers, default=[True] * num_layers),
    )
    return LlamaModel(config)


def _head_dim(params: Hyperparameters, hidden_size: int, num_heads: int) -> int:
    if "attention.key_length" in params:
        head_dim = params.count("attention.key_length", MAX_HEAD_DIM)
    else:
        head_dim, rest = divmod(hidden_size, num_heads)
        if rest:
            raise params.wrong("attention.head_count", f"a divisor of embedding_length {hidden_size}", num_heads)
    if head_dim % 2 or not 2 <= head_dim <= MAX_HEAD_DIM:
        raise params.wrong("attention.key_length", f"an even number from 2 to {MAX_HEAD_DIM}", head_dim)
    value_length = params.count("attention.value_length", MAX_HEAD_DIM, default=head_dim)
    if value_length != head_dim:
        raise params.wrong("attention.value_length", f"the key length {head_dim}", value_length)
    rotated = params.count("rope.dimension_count", MAX_HEAD_DIM, default=head_dim)
    if rotated != head_dim:
        raise UnsupportedModel(
            f"{params.key('rope.dimension_count')}: expected all {head_dim} elements of a head, got {rotated}",
            param="model",
        )
    return head_dim


def _translate(config: HFConfig) -> dict[str, object]:
    """``config.json`` in the keys that ``parse`` reads."""
    model_type = config.take_str("model_type")
    num_heads = config.take_int("num_attention_heads")
    config.require("hidden_act", "silu")
    config.require("attention_bias", False)
    config.require("mlp_bias", False)
    keys: dict[str, object] = {
        "general.architecture": model_type if model_type in ARCHITECTURES else "llama",
        "context_length": config.take_int("max_position_embeddings"),
        "block_count": config.take_int("num_hidden_layers"),
        "embedding_length": config.take_int("hidden_size"),
        "feed_forward_length": config.take_int("intermediate_size"),
        "attention.head_count": num_heads,
        "attention.head_count_kv": config.take_int("num_key_value_heads", num_heads),
        "attention.layer_norm_rms_epsilon": config.take_float("rms_norm_eps", 1e-6),
        "vocab_size": config.take_int("vocab_size"),
        "rope.is_interleaved": False,
        "is_head_tied": config.take_bool("tie_word_embeddings", False),
        **rope_keys(config),
        **window_keys(config, is_used=config.take_bool("use_sliding_window", model_type == "mistral")),
    }
    if (head_dim := config.take("head_dim")) is not None:
        keys["attention.key_length"] = keys["attention.value_length"] = head_dim
    return keys


GGUF_RENAMES: Sequence[Rename] = ()

HF = HFLayout(
    translate=_translate,
    renames=one_to_one(
        {
            **DECODER_NAMES,
            "layers.{}.input_layernorm": "blk.{}.attn_norm",
            "layers.{}.post_attention_layernorm": "blk.{}.ffn_norm",
        }
    ),
    ignored=("layers.{}.self_attn.rotary_emb.inv_freq",),
    prefixes=("model.",),
)
"""How published safetensors of these models look."""


@dataclass(frozen=True, slots=True)
class LlamaModel:
    """A Llama-type checkpoint, ready to trace. Tensors are called ``blk.3.attn_norm`` and so on."""

    config: LlamaConfig

    def kv_specs(self) -> tuple[KVSpec, ...]:
        """The cache of each layer."""
        return tuple(map(self.config.kv, range(self.config.num_layers)))

    def ignorable_names(self) -> Sequence[str]:
        """The rotary factors, read when the model is parsed, and a head beside the table that it is tied to."""
        return (ROPE_FACTORS, HEAD) if self.config.is_head_tied else (ROPE_FACTORS,)

    def build(self, *, head: Head) -> Graph:
        """Trace the forward."""
        config, trace = self.config, DecoderTrace()
        embedding_table = Weight(EMBEDDING, (config.vocab_size, config.hidden_size))
        x = ops.embedding(trace.token_ids, embedding_table, name="token_embd")
        table = ops.rope_table(
            trace.positions, config.rope.inverse_frequencies, name="rope_table", scale=config.rope.scale
        )
        for layer in range(config.num_layers):
            x = self._attention_block(x, table, layer)
            x = self._feed_forward_block(x, layer)
        head_matrix = embedding_table if config.is_head_tied else Weight(HEAD, embedding_table.shape)
        return trace.finish(x, self._norm, head_matrix, head=head)

    def _attention_block(self, x: Value, table: Value, layer: int) -> Value:
        config, block = self.config, f"blk.{layer}"
        query_size, kv_size = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        h = self._norm(x, f"{block}.attn_norm")
        q = linear(h, f"{block}.attn_q", query_size, has_bias=config.has_qkv_bias)
        k = linear(h, f"{block}.attn_k", kv_size, has_bias=config.has_qkv_bias)
        v = linear(h, f"{block}.attn_v", kv_size, has_bias=config.has_qkv_bias)
        if config.has_qk_norms:
            q = self._norm(q, f"{block}.attn_q_norm", num_groups=config.num_heads)
            k = self._norm(k, f"{block}.attn_k_norm", num_groups=config.num_kv_heads)
        attended = ops.attention(
            self._rope(q, table, f"{block}.attn_q_rope"),
            self._rope(k, table, f"{block}.attn_k_rope"),
            v,
            num_heads=config.num_heads,
            kv=config.kv(layer),
            layer=layer,
            scale=1.0 / math.sqrt(config.head_dim),
            name=f"{block}.attn",
        )
        projected = linear(attended, f"{block}.attn_output", config.hidden_size)
        return ops.add(x, projected, name=f"{block}.attn_residual")

    def _feed_forward_block(self, x: Value, layer: int) -> Value:
        config, block = self.config, f"blk.{layer}"
        h = self._norm(x, f"{block}.ffn_norm")
        gate = linear(h, f"{block}.ffn_gate", config.feed_forward_size)
        up = linear(h, f"{block}.ffn_up", config.feed_forward_size)
        activated = ops.gated(gate, up, kind=Activation.SILU, name=f"{block}.ffn_act")
        down = linear(activated, f"{block}.ffn_down", config.hidden_size)
        return ops.add(x, down, name=f"{block}.ffn_residual")

    def _norm(self, x: Value, name: str, *, num_groups: int = 1) -> Value:
        size = x.shape[-1]
        assert isinstance(size, int)
        weight = Weight(f"{name}.weight", (size // num_groups,))
        return ops.rms_norm(x, weight, eps=self.config.norm_eps, name=name, num_groups=num_groups)

    def _rope(self, x: Value, table: Value, name: str) -> Value:
        config = self.config
        return ops.rope(x, table, head_dim=config.head_dim, interleaved=config.is_rope_interleaved, name=name)
