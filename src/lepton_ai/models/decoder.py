"""What a decoder is, and what its graph begins and ends with: the inputs of a step, a head over the rows wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from lepton_ai.graph import ops
from lepton_ai.graph.attrs import KVSpec
from lepton_ai.graph.graph import Graph
from lepton_ai.graph.tensor import DType, Weight, symbol
from lepton_ai.graph.trace import Trace, Value
from lepton_ai.models.base import LOGIT_ROWS, POSITIONS, TARGETS, TOKEN_IDS, Head, ModelConfig


class DecoderModel(Protocol):
    """A model that generates, ready to trace."""

    @property
    def config(self) -> ModelConfig:
        """The hyper-parameters."""
        ...

    def build(self, *, head: Head) -> Graph:
        """Trace the forward. Cache specs are f32; the precision pass sets their dtype."""
        ...

    def kv_specs(self) -> tuple[KVSpec, ...]:
        """The cache of each layer, as ``build`` states it."""
        ...

    def ignorable_names(self) -> Sequence[str]:
        """Tensors that the checkpoint may hold and the graph does not read."""
        ...


class DecoderTrace:
    """A trace with the inputs ``token_ids`` and ``positions``, ``[T]`` i32."""

    def __init__(self) -> None:
        self._trace = Trace()
        self.token_ids = self._trace.input(TOKEN_IDS, (symbol("T"),), DType.I32)
        self.positions = self._trace.input(POSITIONS, (symbol("T"),), DType.I32)
        self._logit_rows = self._trace.input(LOGIT_ROWS, (symbol("R"),), DType.I32)

    def finish(self, x: Value, norm: Callable[[Value, str], Value], matrix: Weight, *, head: Head) -> Graph:
        """The graph that ends in ``head``: the wanted rows of ``x`` ``[T, C]``, through ``norm``, times ``matrix``.

        The norm, called ``output_norm``, sees only the rows whose logits are wanted.
        """
        x = norm(ops.gather_rows(x, self._logit_rows, name="output_rows"), "output_norm")
        if head == "logits":
            return self._trace.finish([ops.linear(x, matrix, name=head)])
        targets = self._trace.input(TARGETS, (symbol("R"),), DType.I32)
        return self._trace.finish([ops.token_logprob(x, matrix, targets, name=head)])
