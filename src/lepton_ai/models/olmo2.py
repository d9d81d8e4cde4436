"""The OLMo 2 forward (OLMo Team 2025, "2 OLMo 2 Furious").

A decoder that normalises what attention and the feed-forward layer give, before it is added, and not what they take.
Queries and keys are normalised over all their heads at once; rotary pairs lie half a head apart; SwiGLU.
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
from lepton_ai.models.hf_config import HFConfig, rope_keys
from lepton_ai.models.layers import linear
from lepton_ai.models.metadata import Hyperparameters, Metadata
from lepton_ai.models.rope import Rope, read_rope
from lepton_ai.weights.renamed import Rename, one_to_one
from lepton_ai.weights.store import WeightStore

ARCHITECTURES = ("olmo2",)
MODEL_TYPES = ("olmo2",)

# A window is OLMo 3's, whose layers then differ in their rotations too.
_REFUSED = (
    "expert_count",
    "attention.sliding_window",
    "attention.scale",
    "attention.clamp_kqv",
    "logit_scale",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_attn_factor",
)


@dataclass(frozen=True, slots=True)
class Olmo2Config(ModelConfig):
    """Hyper-parameters of one checkpoint."""

    feed_forward_size: int
    num_heads: int
    num_kv_heads: int
    norm_eps: float
    rope: Rope
    is_head_tied: bool

    @property
    def kv(self) -> KVSpec:
        """The cache of every layer."""
        return KVSpec(self.num_kv_heads, self.hidden_size // self.num_heads)


def parse(metadata: Metadata, store: WeightStore) -> Olmo2Model:
    """The model of an ``olmo2`` checkpoint. Raises InvalidModel or UnsupportedModel, naming the key."""
    params = Hyperparameters(metadata, metadata.get_str("general.architecture"))
    params.refuse_options(_REFUSED)
    hidden_size = params.count("embedding_length", MAX_HIDDEN)
    num_heads = params.count("attention.head_count", MAX_HEADS)
    head_dim, rest = divmod(hidden_size, num_heads)
    if rest or head_dim % 2 or head_dim > MAX_HEAD_DIM:
        expected = f"heads of an even size up to {MAX_HEAD_DIM} of embedding_length {hidden_size}"
        raise params.wrong("attention.head_count", expected, num_heads)
    num_kv_heads = params.count("attention.head_count_kv", MAX_HEADS, default=num_heads)
    if num_heads % num_kv_heads:
        raise params.wrong("attention.head_count_kv", f"a divisor of {num_heads} heads", num_kv_heads)
    _check_sizes_of_heads(params, head_dim)
    config = Olmo2Config(
        architecture=params.architecture,
        vocab_size=read_vocab_size(params, store),
        context_length=params.count("context_length", MAX_CONTEXT),
        num_layers=params.count("block_count", MAX_LAYERS),
        hidden_size=hidden_size,
        feed_forward_size=params.count("feed_forward_length", MAX_FEED_FORWARD),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        norm_eps=params.positive("attention.layer_norm_rms_epsilon", 1.0),
        rope=read_rope(params, store, head_dim),
        is_head_tied=params.flag("is_head_tied", default=HEAD not in store.names()),
    )
    return Olmo2Model(config)


def _check_sizes_of_heads(params: Hyperparameters, head_dim: int) -> None:
    for name in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
        size = params.count(name, MAX_HEAD_DIM, default=head_dim)
        if size != head_dim:
            raise UnsupportedModel(
                f"{params.key(name)}: expected the size of a head, {head_dim}, got {size}", param="model"
            )


def _translate(config: HFConfig) -> dict[str, object]:
    """``config.json`` in the keys that ``parse`` reads."""
    num_heads = config.take_int("num_attention_heads")
    config.require("hidden_act", "silu")
    config.require("attention_bias", False)
    return {
        "general.architecture": "olmo2",
        "context_length": config.take_int("max_position_embeddings", 2048),
        "block_count": config.take_int("num_hidden_layers"),
        "embedding_length": config.take_int("hidden_size"),
        "feed_forward_length": config.take_int("intermediate_size"),
        "attention.head_count": num_heads,
        "attention.head_count_kv": config.take_int("num_key_value_heads", num_heads),
        "attention.layer_norm_rms_epsilon": config.take_float("rms_norm_eps", 1e-5),
        "vocab_size": config.take_int("vocab_size"),
        "is_head_tied": config.take_bool("tie_word_embeddings", False),
        **rope_keys(config),
    }


GGUF_RENAMES: Sequence[Rename] = ()

HF = HFLayout(
    translate=_translate,
    renames=one_to_one(
        {
            **DECODER_NAMES,
            "layers.{}.post_attention_layernorm": "blk.{}.post_attention_norm",
            "layers.{}.post_feedforward_layernorm": "blk.{}.post_ffw_norm",
        }
    ),
    prefixes=("model.",),
)


@dataclass(frozen=True, slots=True)
class Olmo2Model:
    """An OLMo 2 checkpoint, ready to trace. Tensors are called ``blk.3.attn_q`` and so on."""

    config: Olmo2Config

    def kv_specs(self) -> tuple[KVSpec, ...]:
        """The cache of each layer."""
        return (self.config.kv,) * self.config.num_layers

    def ignorable_names(self) -> Sequence[str]:
        """A head beside the table that it is tied to."""
        return (HEAD,) if self.config.is_head_tied else ()

    def build(self, *, head: Head) -> Graph:
        """Trace the forward."""
        config, trace = self.config, DecoderTrace()
        table = Weight(EMBEDDING, (config.vocab_size, config.hidden_size))
        x = ops.embedding(trace.token_ids, table, name="token_embd")
        rope_table = ops.rope_table(
            trace.positions, config.rope.inverse_frequencies, name="rope_table", scale=config.rope.scale
        )
        for layer in range(config.num_layers):
            x = self._attention_block(x, rope_table, layer)
            x = self._feed_forward_block(x, layer)
        head_matrix = table if config.is_head_tied else Weight(HEAD, table.shape)
        return trace.finish(x, self._norm, head_matrix, head=head)

    def _attention_block(self, x: Value, rope_table: Value, layer: int) -> Value:
        config, block = self.config, f"blk.{layer}"
        head_dim, kv_size = config.kv.head_dim, config.num_kv_heads * config.kv.head_dim
        q = self._norm(linear(x, f"{block}.attn_q", config.hidden_size), f"{block}.attn_q_norm")
        k = self._norm(linear(x, f"{block}.attn_k", kv_size), f"{block}.attn_k_norm")
        attended = ops.attention(
            ops.rope(q, rope_table, head_dim=head_dim, interleaved=False, name=f"{block}.attn_q_rope"),
            ops.rope(k, rope_table, head_dim=head_dim, interleaved=False, name=f"{block}.attn_k_rope"),
            linear(x, f"{block}.attn_v", kv_size),
            num_heads=config.num_heads,
            kv=config.kv,
            layer=layer,
            scale=1.0 / math.sqrt(head_dim),
            name=f"{block}.attn",
        )
        projected = linear(attended, f"{block}.attn_output", config.hidden_size)
        return ops.add(x, self._norm(projected, f"{block}.post_attention_norm"), name=f"{block}.attn_residual")

    def _feed_forward_block(self, x: Value, layer: int) -> Value:
        config, block = self.config, f"blk.{layer}"
        gate = linear(x, f"{block}.ffn_gate", config.feed_forward_size)
        up = linear(x, f"{block}.ffn_up", config.feed_forward_size)
        activated = ops.gated(gate, up, kind=Activation.SILU, name=f"{block}.ffn_act")
        down = linear(activated, f"{block}.ffn_down", config.hidden_size)
        return ops.add(x, self._norm(down, f"{block}.post_ffw_norm"), name=f"{block}.ffn_residual")

    def _norm(self, x: Value, name: str) -> Value:
        size = x.shape[-1]
        assert isinstance(size, int)
        return ops.rms_norm(x, Weight(f"{name}.weight", (size,)), eps=self.config.norm_eps, name=name)
