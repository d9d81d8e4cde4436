"""The Gemma 3 forward (Gemma Team 2025), text only.

Scaled embeddings, RMS norms before and after each block, norms of queries and keys, GELU gates, a tied head. Five
layers of six see a window of positions and turn at a base of their own; they are a KV group apart from the global ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
from lepton_ai.models.rope import Rope, plain_rope, read_rope
from lepton_ai.weights.renamed import Rename, one_to_one
from lepton_ai.weights.store import WeightStore

ARCHITECTURES = ("gemma3",)
MODEL_TYPES = ("gemma3_text",)

_PATTERN = 6
"""Of so many layers, the last is global."""

_LAYERS_OF_27B = 62
"""GGUF files do not say what queries are scaled by; in this one model it is not the head size."""

_REFUSED = ("expert_count", "attention.scale", "attn_logit_softcapping", "final_logit_softcapping")


@dataclass(frozen=True, slots=True)
class Gemma3Config(ModelConfig):
    """Hyper-parameters of one checkpoint. ``windows``: how many last positions each layer sees; None for all.

    ``norm_offset`` is added to the weights of norms: 1 for folders, 0 for GGUF files, which have it in the weights.
    """

    feed_forward_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_eps: float
    norm_offset: float
    query_scale: float
    global_rope: Rope
    local_rope: Rope
    windows: tuple[int | None, ...]

    def kv(self, layer: int) -> KVSpec:
        """The cache of a layer."""
        return KVSpec(self.num_kv_heads, self.head_dim, window=self.windows[layer])


def parse(metadata: Metadata, store: WeightStore) -> Gemma3Model:
    """The model of a ``gemma3`` checkpoint. Raises InvalidModel or UnsupportedModel, naming the key."""
    params = Hyperparameters(metadata, metadata.get_str("general.architecture"))
    params.refuse_options(_REFUSED)
    hidden_size = params.count("embedding_length", MAX_HIDDEN)
    num_heads = params.count("attention.head_count", MAX_HEADS)
    num_kv_heads = params.count("attention.head_count_kv", MAX_HEADS)
    if num_heads % num_kv_heads:
        raise params.wrong("attention.head_count_kv", f"a divisor of {num_heads} heads", num_kv_heads)
    head_dim = params.count("attention.key_length", MAX_HEAD_DIM)
    if params.count("attention.value_length", MAX_HEAD_DIM) != head_dim or head_dim % 2:
        raise params.wrong("attention.value_length", "the key length, an even number", head_dim)
    num_layers = params.count("block_count", MAX_LAYERS)
    scalar = hidden_size / num_heads if num_layers == _LAYERS_OF_27B else float(head_dim)
    config = Gemma3Config(
        architecture=params.architecture,
        vocab_size=read_vocab_size(params, store),
        context_length=params.count("context_length", MAX_CONTEXT),
        num_layers=num_layers,
        hidden_size=hidden_size,
        feed_forward_size=params.count("feed_forward_length", MAX_FEED_FORWARD),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        norm_eps=params.positive("attention.layer_norm_rms_epsilon", 1.0),
        norm_offset=params.positive("norm_offset", 1.0) if "norm_offset" in params else 0.0,
        query_scale=1.0 / math.sqrt(params.positive("attention.query_scalar", 1e6, default=scalar)),
        global_rope=read_rope(params, store, head_dim),
        local_rope=plain_rope(params.positive("rope.freq_base_swa", 1e12, default=10000.0), head_dim),
        windows=params.windows(num_layers, default=[(layer + 1) % _PATTERN != 0 for layer in range(num_layers)]),
    )
    return Gemma3Model(config)


def _translate(config: HFConfig) -> dict[str, object]:
    """``config.json`` in the keys that ``parse`` reads."""
    head_dim, num_layers = config.take_int("head_dim", 256), config.take_int("num_hidden_layers")
    config.require("hidden_activation", "gelu_pytorch_tanh")
    config.require("hidden_act", "gelu_pytorch_tanh")
    config.require("attention_bias", False)
    config.require("use_bidirectional_attention", False)
    config.require("tie_word_embeddings", True)
    for capping in ("attn_logit_softcapping", "final_logit_softcapping"):
        config.require(capping)
    local, rotations = _rotations(config)
    pattern = config.take_int("sliding_window_pattern", config.take_int("_sliding_window_pattern", _PATTERN))
    windows = window_keys(config, is_used=True)
    if config.take("layer_types") is None and windows:
        windows["attention.sliding_window_pattern"] = [(layer + 1) % pattern != 0 for layer in range(num_layers)]
    return {
        "general.architecture": "gemma3",
        "context_length": config.take_int("max_position_embeddings", 131072),
        "block_count": num_layers,
        "embedding_length": config.take_int("hidden_size"),
        "feed_forward_length": config.take_int("intermediate_size"),
        "attention.head_count": config.take_int("num_attention_heads"),
        "attention.head_count_kv": config.take_int("num_key_value_heads"),
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "attention.layer_norm_rms_epsilon": config.take_float("rms_norm_eps", 1e-6),
        "attention.query_scalar": config.take_float("query_pre_attn_scalar", 256.0),
        "norm_offset": 1.0,
        "vocab_size": config.take_int("vocab_size"),
        "rope.freq_base_swa": local,
        **rotations,
        **windows,
    }


def _rotations(config: HFConfig) -> tuple[float, dict[str, object]]:
    """The base of local layers, and the keys of global ones. Version 5 of the library has an object for each kind."""
    both = config.take_object("rope_parameters")
    if both is None:
        return config.take_float("rope_local_base_freq", 10000.0), rope_keys(config, default_base=1e6)
    local = both.take_object("sliding_attention") or HFConfig({})
    local.require("rope_type", "default")
    base = local.take_float("rope_theta", 10000.0)
    local.refuse_unread(harmless=())
    values = both.take("full_attention")
    both.refuse_unread(harmless=())
    return base, rope_keys(HFConfig({"rope_parameters": values}), default_base=1e6)


GGUF_RENAMES: Sequence[Rename] = ()

HF = HFLayout(
    translate=_translate,
    renames=one_to_one(
        {
            **DECODER_NAMES,
            "layers.{}.input_layernorm": "blk.{}.attn_norm",
            "layers.{}.post_attention_layernorm": "blk.{}.post_attention_norm",
            "layers.{}.pre_feedforward_layernorm": "blk.{}.ffn_norm",
            "layers.{}.post_feedforward_layernorm": "blk.{}.post_ffw_norm",
        }
    ),
    prefixes=("model.",),
)


@dataclass(frozen=True, slots=True)
class Gemma3Model:
    """A Gemma 3 checkpoint, ready to trace. Tensors are called ``blk.3.attn_norm`` and so on."""

    config: Gemma3Config

    def kv_specs(self) -> tuple[KVSpec, ...]:
        """The cache of each layer."""
        return tuple(map(self.config.kv, range(self.config.num_layers)))

    def ignorable_names(self) -> Sequence[str]:
        """A head beside the table that it is tied to."""
        return (HEAD,)

    def build(self, *, head: Head) -> Graph:
        """Trace the forward."""
        config, trace = self.config, DecoderTrace()
        table = Weight(EMBEDDING, (config.vocab_size, config.hidden_size))
        x = ops.embedding(trace.token_ids, table, name="token_embd", scale=math.sqrt(config.hidden_size))
        near, far = (
            ops.rope_table(trace.positions, rope.inverse_frequencies, name=name, scale=rope.scale)
            for rope, name in ((config.local_rope, "rope_table_local"), (config.global_rope, "rope_table_global"))
        )
        for layer, window in enumerate(config.windows):
            x = self._attention_block(x, far if window is None else near, layer)
            x = self._feed_forward_block(x, layer)
        return trace.finish(x, self._norm, table, head=head)

    def _attention_block(self, x: Value, rope_table: Value, layer: int) -> Value:
        config, block = self.config, f"blk.{layer}"
        h = self._norm(x, f"{block}.attn_norm")
        q = linear(h, f"{block}.attn_q", config.num_heads * config.head_dim)
        k = linear(h, f"{block}.attn_k", config.num_kv_heads * config.head_dim)
        v = linear(h, f"{block}.attn_v", config.num_kv_heads * config.head_dim)
        q = self._norm(q, f"{block}.attn_q_norm", num_groups=config.num_heads)
        k = self._norm(k, f"{block}.attn_k_norm", num_groups=config.num_kv_heads)
        attended = ops.attention(
            ops.rope(q, rope_table, head_dim=config.head_dim, interleaved=False, name=f"{block}.attn_q_rope"),
            ops.rope(k, rope_table, head_dim=config.head_dim, interleaved=False, name=f"{block}.attn_k_rope"),
            v,
            num_heads=config.num_heads,
            kv=config.kv(layer),
            layer=layer,
            scale=config.query_scale,
            name=f"{block}.attn",
        )
        projected = linear(attended, f"{block}.attn_output", config.hidden_size)
        normed = self._norm(projected, f"{block}.post_attention_norm")
        return ops.add(x, normed, name=f"{block}.attn_residual")

    def _feed_forward_block(self, x: Value, layer: int) -> Value:
        config, block = self.config, f"blk.{layer}"
        h = self._norm(x, f"{block}.ffn_norm")
        gate = linear(h, f"{block}.ffn_gate", config.feed_forward_size)
        up = linear(h, f"{block}.ffn_up", config.feed_forward_size)
        activated = ops.gated(gate, up, kind=Activation.GELU_TANH, name=f"{block}.ffn_act")
        down = linear(activated, f"{block}.ffn_down", config.hidden_size)
        return ops.add(x, self._norm(down, f"{block}.post_ffw_norm"), name=f"{block}.ffn_residual")

    def _norm(self, x: Value, name: str, *, num_groups: int = 1) -> Value:
        size = x.shape[-1]
        assert isinstance(size, int)
        weight = Weight(f"{name}.weight", (size // num_groups,))
        return ops.rms_norm(
            x,
            weight,
            eps=self.config.norm_eps,
            name=name,
            num_groups=num_groups,
            weight_offset=self.config.norm_offset,
        )
