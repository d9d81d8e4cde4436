"""The GPT-2 forward (Radford et al. 2019).

Pre-norm decoder: layer norms with biases, learned positions, multi-head attention, GELU in its tanh form, a tied head.
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
    MAX_LAYERS,
    read_hidden_and_heads,
    read_vocab_size,
)
from lepton_ai.models.hf import HFLayout
from lepton_ai.models.hf_config import HFConfig
from lepton_ai.models.layers import linear
from lepton_ai.models.metadata import Hyperparameters, Metadata
from lepton_ai.weights.renamed import Rename, one_to_one
from lepton_ai.weights.store import WeightStore

ARCHITECTURES = ("gpt2",)
MODEL_TYPES = ("gpt2",)

_POSITIONS = "position_embd.weight"
_QKV = ("blk.{}.attn_q", "blk.{}.attn_k", "blk.{}.attn_v")
_REFUSED = ("expert_count", "attention.sliding_window", "attention.scale", "logit_scale")


@dataclass(frozen=True, slots=True)
class GPT2Config(ModelConfig):
    """Hyper-parameters of one checkpoint."""

    feed_forward_size: int
    num_heads: int
    norm_eps: float
    is_head_tied: bool

    @property
    def kv(self) -> KVSpec:
        """The cache of every layer."""
        return KVSpec(self.num_heads, self.hidden_size // self.num_heads)


def parse(metadata: Metadata, store: WeightStore) -> GPT2Model:
    """The model of a ``gpt2`` checkpoint. Raises InvalidModel or UnsupportedModel, naming the key."""
    params = Hyperparameters(metadata, metadata.get_str("general.architecture"))
    params.refuse_options(_REFUSED)
    hidden_size, num_heads = read_hidden_and_heads(params)
    config = GPT2Config(
        architecture=params.architecture,
        vocab_size=read_vocab_size(params, store),
        context_length=params.count("context_length", MAX_CONTEXT),
        num_layers=params.count("block_count", MAX_LAYERS),
        hidden_size=hidden_size,
        feed_forward_size=params.count("feed_forward_length", MAX_FEED_FORWARD),
        num_heads=num_heads,
        norm_eps=params.positive("attention.layer_norm_epsilon", 1.0),
        is_head_tied=params.flag("is_head_tied", default=HEAD not in store.names()),
    )
    return GPT2Model(config)


def _translate(config: HFConfig) -> dict[str, object]:
    """``config.json`` in the keys that ``parse`` reads."""
    hidden_size = config.take_int("n_embd")
    config.require("activation_function", "gelu_new", "gelu_pytorch_tanh")
    config.require("scale_attn_weights", True)
    config.require("scale_attn_by_inverse_layer_idx", False)
    config.require("add_cross_attention", False)
    config.ignore("n_ctx", "resid_pdrop", "embd_pdrop", "attn_pdrop", "reorder_and_upcast_attn", *_UNUSED)
    config.ignore(*(f"summary_{what}" for what in _SUMMARY))
    return {
        "general.architecture": "gpt2",
        "context_length": config.take_int("n_positions", 1024),
        "block_count": config.take_int("n_layer"),
        "embedding_length": hidden_size,
        "feed_forward_length": config.take_int("n_inner", 4 * hidden_size),
        "attention.head_count": config.take_int("n_head"),
        "attention.layer_norm_epsilon": config.take_float("layer_norm_epsilon", 1e-5),
        "vocab_size": config.take_int("vocab_size"),
        "is_head_tied": config.take_bool("tie_word_embeddings", True),
    }


_UNUSED = ("n_special", "predict_special_tokens")
"""Keys that published files have and no program reads."""

_SUMMARY = ("type", "use_proj", "activation", "proj_to_labels", "first_dropout")
"""Keys of a head for multiple choice, which is not loaded."""

GGUF_RENAMES = (Rename("blk.{}.attn_qkv", _QKV),)

HF = HFLayout(
    translate=_translate,
    renames=(
        *one_to_one(
            {
                "wte": "token_embd",
                "wpe": "position_embd",
                "ln_f": "output_norm",
                "lm_head": "output",
                "h.{}.ln_1": "blk.{}.attn_norm",
                "h.{}.ln_2": "blk.{}.ffn_norm",
            }
        ),
        # Matrices lie as (inputs, outputs): the layer that made them was written as a convolution.
        Rename("h.{}.attn.c_attn", _QKV, is_transposed=True),
        Rename("h.{}.attn.c_proj", ("blk.{}.attn_output",), is_transposed=True),
        Rename("h.{}.mlp.c_fc", ("blk.{}.ffn_up",), is_transposed=True),
        Rename("h.{}.mlp.c_proj", ("blk.{}.ffn_down",), is_transposed=True),
    ),
    ignored=("h.{}.attn.bias", "h.{}.attn.masked_bias"),  # buffers: the causal mask and its constant
    prefixes=("transformer.",),
)


@dataclass(frozen=True, slots=True)
class GPT2Model:
    """A GPT-2 checkpoint, ready to trace. Tensors are called ``blk.3.attn_norm`` and so on."""

    config: GPT2Config

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
        position_table = Weight(_POSITIONS, (config.context_length, config.hidden_size))
        x = ops.embedding(trace.token_ids, table, name="token_embd")
        x = ops.add(x, ops.embedding(trace.positions, position_table, name="position_embd"), name="embd")
        for layer in range(config.num_layers):
            x = self._attention_block(x, layer)
            x = self._feed_forward_block(x, layer)
        head_matrix = table if config.is_head_tied else Weight(HEAD, table.shape)
        return trace.finish(x, self._norm, head_matrix, head=head)

    def _attention_block(self, x: Value, layer: int) -> Value:
        config, block = self.config, f"blk.{layer}"
        h = self._norm(x, f"{block}.attn_norm")
        q, k, v = (linear(h, f"{block}.attn_{part}", config.hidden_size, has_bias=True) for part in "qkv")
        attended = ops.attention(
            q,
            k,
            v,
            num_heads=config.num_heads,
            kv=config.kv,
            layer=layer,
            scale=1.0 / math.sqrt(config.kv.head_dim),
            name=f"{block}.attn",
        )
        projected = linear(attended, f"{block}.attn_output", config.hidden_size, has_bias=True)
        return ops.add(x, projected, name=f"{block}.attn_residual")

    def _feed_forward_block(self, x: Value, layer: int) -> Value:
        block = f"blk.{layer}"
        h = self._norm(x, f"{block}.ffn_norm")
        up = linear(h, f"{block}.ffn_up", self.config.feed_forward_size, has_bias=True)
        activated = ops.activate(up, kind=Activation.GELU_TANH, name=f"{block}.ffn_act")
        down = linear(activated, f"{block}.ffn_down", self.config.hidden_size, has_bias=True)
        return ops.add(x, down, name=f"{block}.ffn_residual")

    def _norm(self, x: Value, name: str) -> Value:
        size = (self.config.hidden_size,)
        return ops.layer_norm(
            x, Weight(f"{name}.weight", size), Weight(f"{name}.bias", size), eps=self.config.norm_eps, name=name
        )
