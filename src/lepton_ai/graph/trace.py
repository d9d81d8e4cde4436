"""Tracing: a model function runs once over ``Value`` handles and leaves a graph behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lepton_ai.graph.attrs import Attrs
from lepton_ai.graph.graph import Graph, check
from lepton_ai.graph.node import Node
from lepton_ai.graph.tensor import DType, Shape, Tensor, Weight


@dataclass(slots=True)
class Trace:
    """A graph under construction."""

    inputs: list[Tensor] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    next_id: int = 0

    def input(self, name: str, shape: Shape, dtype: DType) -> Value:
        """Declare an input of the graph."""
        tensor = self.new_tensor(name, shape, dtype)
        self.inputs.append(tensor)
        return Value(tensor, self)

    def new_tensor(self, name: str, shape: Shape, dtype: DType) -> Tensor:
        """A tensor with a fresh id."""
        tensor = Tensor(self.next_id, shape, dtype, name)
        self.next_id += 1
        return tensor

    def add(
        self,
        op: str,
        inputs: Sequence[Value],
        outputs: Sequence[tuple[str, Shape, DType]],
        *,
        attrs: Attrs | None = None,
        weights: Sequence[Weight] = (),
    ) -> tuple[Value, ...]:
        """Append a node; it is named after its first output."""
        for value in inputs:
            assert value.trace is self, f"{value.tensor.name} belongs to another trace"
        made = tuple(self.new_tensor(name, shape, dtype) for name, shape, dtype in outputs)
        tensors = tuple(v.tensor for v in inputs)
        self.nodes.append(Node(op, made[0].name, tensors, tuple(weights), attrs or Attrs(), made))
        return tuple(Value(t, self) for t in made)

    def finish(self, outputs: Sequence[Value]) -> Graph:
        """The finished graph."""
        graph = Graph(tuple(self.inputs), tuple(self.nodes), tuple(v.tensor for v in outputs))
        check(graph)
        return graph


@dataclass(frozen=True, slots=True)
class Value:
    """A handle on a tensor of a trace: what model code passes to ops."""

    tensor: Tensor
    trace: Trace

    @property
    def shape(self) -> Shape:
        """Shape of the tensor."""
        return self.tensor.shape
