"""The forward of BERT-type encoders (Devlin et al. 2018): post-norm blocks over whole sequences, and their heads.

Embeddings of words, positions and (if there are any) token types are summed and normalised; each block adds attention
without a direction, then a feed-forward layer, and normalises after each. MPNet (Song et al. 2020) has no token types,
and biases of attention by distance, one table for all blocks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from lepton_ai.graph import ops
from lepton_ai.graph.attrs import Activation, KVSpec, PoolMode
from lepton_ai.graph.graph import Graph
from lepton_ai.graph.tensor import DType, Weight, symbol
from lepton_ai.graph.trace import Trace, Value
from lepton_ai.models.base import POSITIONS, TOKEN_IDS, TOKEN_TYPE_IDS
from lepton_ai.models.dimensions import EMBEDDING
from lepton_ai.models.encoder_config import CLASSIFIER, POOLER, TOKEN_TYPES, EncoderConfig, Pooling
from lepton_ai.models.layers import linear

_CACHE_LAYER = 0  # a sequence runs whole, in one step: the blocks take turns with the cache of one layer

EncoderHead: TypeAlias = Literal["hidden_states", "pooler_output", "class_logits"] | Pooling
"""What the graph ends in: a row for each token ``[T, C]``, BERT's own for each sequence ``[S, C]``, the logits of
classes (``[S, K]``, or ``[T, K]`` of a classifier of tokens), or a pooled row for each sequence ``[S, C]``."""


@dataclass(frozen=True, slots=True)
class EncoderModel:
    """An encoder's checkpoint, ready to trace. Tensors are called ``blk.3.attn_output`` and so on."""

    config: EncoderConfig

    @property
    def kv_spec(self) -> KVSpec:
        """The one cache that all blocks use in turn, f32."""
        return KVSpec(self.config.num_heads, self.config.hidden_size // self.config.num_heads)

    def ignorable_names(self) -> Sequence[str]:
        """Heads: which of them are read is a matter of the graph."""
        return (*POOLER, *(CLASSIFIER if self.config.classifier else ()))

    def output_name(self, head: EncoderHead) -> str:
        """What the graph's output is called."""
        if isinstance(head, Pooling):
            return f"{head.mode.value}_normalized" if head.is_normalized else f"{head.mode.value}_pooled"
        return f"blk.{self.config.num_layers - 1}.layer_output_norm" if head == "hidden_states" else head

    def is_per_token(self, head: EncoderHead) -> bool:
        """Whether the output has a row for each token, not for each sequence."""
        classifier = self.config.classifier
        return head == "hidden_states" or (
            head == "class_logits" and classifier is not None and classifier.is_per_token
        )

    def build(self, *, heads: Sequence[EncoderHead]) -> Graph:
        """Trace the forward. The graph has an output for each of ``heads``."""
        trace = Trace()
        x = self._embed(trace)
        for layer in range(self.config.num_layers):
            x = self._attention_block(x, layer)
            x = self._feed_forward_block(x, layer)
        return trace.finish([self._head(x, head) for head in heads])

    def _embed(self, trace: Trace) -> Value:
        config = self.config
        num_positions = config.context_length + config.first_position
        ids, positions = (trace.input(name, (symbol("T"),), DType.I32) for name in (TOKEN_IDS, POSITIONS))
        words = ops.embedding(ids, self._table(EMBEDDING, config.vocab_size), name="token_embd")
        if config.num_token_types:
            types = trace.input(TOKEN_TYPE_IDS, (symbol("T"),), DType.I32)
            table = self._table(TOKEN_TYPES, config.num_token_types)
            words = ops.add(words, ops.embedding(types, table, name="token_types"), name="typed_embd")
        places = ops.embedding(
            positions,
            self._table("position_embd.weight", num_positions),
            name="position_embd",
            first_row=config.first_position,
        )
        return self._norm(ops.add(words, places, name="embd"), "token_embd_norm")

    def _attention_block(self, x: Value, layer: int) -> Value:
        config, block = self.config, f"blk.{layer}"
        q, k, v = (linear(x, f"{block}.attn_{part}", config.hidden_size, has_bias=True) for part in "qkv")
        buckets = config.distance_buckets
        attended = ops.attention(
            q,
            k,
            v,
            num_heads=config.num_heads,
            kv=self.kv_spec,
            layer=_CACHE_LAYER,
            scale=1.0 / math.sqrt(self.kv_spec.head_dim),
            name=f"{block}.attn",
            is_causal=False,
            bias=Weight("attn_rel_b.weight", (buckets.count, config.num_heads)) if buckets else None,
            buckets=buckets,
        )
        projected = linear(attended, f"{block}.attn_output", config.hidden_size, has_bias=True)
        return self._norm(ops.add(x, projected, name=f"{block}.attn_residual"), f"{block}.attn_output_norm")

    def _feed_forward_block(self, x: Value, layer: int) -> Value:
        block = f"blk.{layer}"
        up = linear(x, f"{block}.ffn_up", self.config.feed_forward_size, has_bias=True)
        activated = ops.activate(up, kind=self.config.activation, name=f"{block}.ffn_act")
        down = linear(activated, f"{block}.ffn_down", self.config.hidden_size, has_bias=True)
        return self._norm(ops.add(x, down, name=f"{block}.ffn_residual"), f"{block}.layer_output_norm")

    def _head(self, x: Value, head: EncoderHead) -> Value:
        name = self.output_name(head)
        if isinstance(head, Pooling):
            if not head.is_normalized:
                return ops.pool(x, mode=head.mode, name=name)
            pooled = ops.pool(x, mode=head.mode, name=f"{head.mode.value}_pooled")
            return ops.l2_normalize(pooled, name=name)
        match head:
            case "hidden_states":
                return x
            case "pooler_output":
                return self._pooler(x, name)
            case "class_logits":
                classifier = self.config.classifier
                assert classifier is not None, "the checkpoint has no classifier"
                rows = x if classifier.is_per_token else self._pooler(x, "class")
                return linear(rows, name, len(classifier.labels), has_bias=True, weight="cls.output")

    def _pooler(self, x: Value, name: str) -> Value:
        first = ops.pool(x, mode=PoolMode.CLS, name=f"{name}_token")
        dense = linear(first, f"{name}_dense", self.config.hidden_size, has_bias=True, weight="cls")
        return ops.activate(dense, kind=Activation.TANH, name=name)

    def _table(self, name: str, num_rows: int) -> Weight:
        return Weight(name, (num_rows, self.config.hidden_size))

    def _norm(self, x: Value, name: str) -> Value:
        size = (self.config.hidden_size,)
        weight, bias = Weight(f"{name}.weight", size), Weight(f"{name}.bias", size)
        return ops.layer_norm(x, weight, bias, eps=self.config.norm_eps, name=name)
