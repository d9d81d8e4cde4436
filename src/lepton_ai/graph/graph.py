"""A graph: inputs, nodes in an order that runs, outputs. Passes take one and return a new one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lepton_ai.errors import InvalidRequest
from lepton_ai.graph.node import Node
from lepton_ai.graph.tensor import Tensor, Weight


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in topological order. Every node input is a graph input or the output of an earlier node."""

    inputs: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Tensor, ...]

    def weights(self) -> tuple[Weight, ...]:
        """All weights, each once, in the order of first use."""
        seen: dict[str, Weight] = {}
        for node in self.nodes:
            for weight in node.weights:
                seen.setdefault(weight.name, weight)
        return tuple(seen.values())

    def tensor(self, name: str) -> Tensor:
        """The tensor called ``name``. Raises InvalidRequest if there is none."""
        for tensor in (*self.inputs, *(t for n in self.nodes for t in n.outputs)):
            if tensor.name == name:
                return tensor
        raise InvalidRequest(f"name: the graph has no tensor called {name!r}", param="name")

    def producers(self) -> dict[int, Node]:
        """Tensor id -> the node that makes it."""
        return {t.id: node for node in self.nodes for t in node.outputs}

    def consumers(self) -> dict[int, list[Node]]:
        """Tensor id -> the nodes that read it, in order."""
        readers: dict[int, list[Node]] = {}
        for node in self.nodes:
            for tensor in node.inputs:
                readers.setdefault(tensor.id, []).append(node)
        return readers

    def slice(self, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
        """The part of the graph that computes ``outputs`` from ``inputs`` (tensor names).

        Graph inputs that the part still needs (token ids, positions) stay inputs, after the named ones.
        """
        cut = [self.tensor(name) for name in inputs]
        wanted = [self.tensor(name) for name in outputs]
        producers = self.producers()
        known = {t.id for t in cut}
        needed: set[int] = set()
        stack = [t.id for t in wanted if t.id not in known]
        while stack:
            tensor_id = stack.pop()
            if tensor_id in needed:
                continue
            needed.add(tensor_id)
            if tensor_id in producers:
                stack.extend(t.id for t in producers[tensor_id].inputs if t.id not in known)
        nodes = tuple(n for n in self.nodes if any(t.id in needed for t in n.outputs))
        kept_inputs = tuple(t for t in self.inputs if t.id in needed and t.id not in known)
        return Graph((*cut, *kept_inputs), nodes, tuple(wanted))


def check(graph: Graph) -> None:
    """Assert the invariants that passes must keep: order, single assignment, unique names."""
    made: set[int] = set()
    names: set[str] = set()
    _add_all(graph.inputs, made, names)
    for node in graph.nodes:
        for tensor in node.inputs:
            assert tensor.id in made, f"{node.name} reads {tensor.name} before it is made"
        _add_all(node.outputs, made, names)
    for tensor in graph.outputs:
        assert tensor.id in made, f"output {tensor.name} is never made"


def _add_all(tensors: Iterable[Tensor], made: set[int], names: set[str]) -> None:
    for tensor in tensors:
        assert tensor.id not in made, f"tensor {tensor.name} is made twice"
        assert tensor.name not in names, f"two tensors are called {tensor.name}"
        made.add(tensor.id)
        names.add(tensor.name)
