"""Runs a lowered graph node by node."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lepton_ai.backends.base import Float32Array, KVCache, StepInputs, StepOutputs
from lepton_ai.backends.reference.kv import ReferenceKVCache
from lepton_ai.backends.reference.ops import Context, Value, run_node
from lepton_ai.backends.reference.sampling import sample
from lepton_ai.backends.reference.weights import DenseWeight, HeldWeight, narrow
from lepton_ai.errors import InvalidRequest
from lepton_ai.graph.attrs import ActivatedLinearAttrs, LinearAttrs
from lepton_ai.graph.node import segment_weights
from lepton_ai.graph.passes.plan import Plan
from lepton_ai.graph.tensor import DType


@dataclass(frozen=True, slots=True)
class FinishedStep:
    """A step that ran when it was started."""

    outputs: StepOutputs

    def result(self) -> StepOutputs:
        """The outputs."""
        return self.outputs


class ReferenceExecutable:
    """A plan with its weights. The arena of the plan is not used: every tensor is an array of its own."""

    def __init__(self, plan: Plan, weights: dict[str, HeldWeight]) -> None:
        self.plan = plan
        self._weights = weights

    def run(self, inputs: StepInputs, cache: KVCache) -> FinishedStep:
        """Run one step to its end. Sampling reads the graph's first output as logits."""
        assert isinstance(cache, ReferenceKVCache), "the cache was made by another backend"
        context = Context(inputs, cache, self._weights)
        values: dict[int, Value] = {t.id: _graph_input(t.name, inputs) for t in self.plan.graph.inputs}
        for node in self.plan.graph.nodes:
            made = run_node(node, [values[t.id] for t in node.inputs], context)
            values.update((t.id, value) for t, value in zip(node.outputs, made, strict=True))
        tensors = {t.name: np.asarray(values[t.id], np.float32) for t in self.plan.results}
        sampled = None
        if inputs.sampling is not None:
            sampled = sample(tensors[self.plan.graph.outputs[0].name], inputs.sampling)
        return FinishedStep(StepOutputs(tensors, sampled))

    def set_weight(self, name: str, values: Float32Array) -> None:
        """Replace one weight: a matrix that 8-bit activations read is held in 8 bits, rotated where they are.

        Anything else is held in f32.

        Raises InvalidRequest for an unknown name or another shape.
        """
        held = self._weights.get(name)
        if held is None:
            raise InvalidRequest(f"name: the graph has no weight called {name!r}", param="name")
        expected = held.values().shape
        if values.shape != expected:
            raise InvalidRequest(f"values: expected shape {expected} for {name}, got {values.shape}", param="values")
        dense = np.array(values, np.float32)
        read_as = self._read_as(name)
        self._weights[name] = narrow(dense, read_as) if read_as else DenseWeight(dense)

    def _read_as(self, name: str) -> DType | None:
        """The type of the 8-bit rows that a matrix is multiplied by."""
        types = (
            node.inputs[0].dtype
            for node in self.plan.graph.nodes
            if isinstance(node.attrs, LinearAttrs | ActivatedLinearAttrs) and node.inputs[0].dtype.num_terms > 0
            for _, matrix, _ in segment_weights(node)
            if matrix.name == name
        )
        return next(types, None)


def _graph_input(name: str, inputs: StepInputs) -> Value:
    """The value of a graph input: a field of the step of this name, or one of its ``tensors``."""
    if name in inputs.tensors:
        return inputs.tensors[name]
    fields = {
        "token_ids": inputs.token_ids,
        "positions": inputs.positions,
        "logit_rows": inputs.logit_rows,
        "targets": inputs.targets,
        "token_type_ids": np.zeros_like(inputs.token_ids) if inputs.token_type_ids is None else inputs.token_type_ids,
    }
    value = fields.get(name)
    if value is None:
        raise InvalidRequest(f"inputs: the graph reads {name!r}, which the step does not give", param="inputs")
    return value
