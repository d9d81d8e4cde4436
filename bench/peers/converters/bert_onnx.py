"""A BERT sentence encoder as an ONNX graph of standard ops, made from its folder without any other framework.

Runs under the interpreter of the encoders' peers.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

_OPSET = 18
_IR_VERSION = 9


class GraphBuilder:
    """Nodes and constants of a graph in the making. Values are names, as in ONNX."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """A constant tensor."""
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        """A constant ``[n]`` of int64: a shape, or axes."""
        return self.constant(values, np.int64)

    def op(self, op_type: str, *inputs: str, **attributes: object) -> str:
        """A node with one output."""
        name = f"{op_type}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op_type, list(inputs), [name], name=name, **attributes))
        return name

    def model(self, *, embeddings: str, hidden_size: int) -> onnx.ModelProto:
        """The model from ``input_ids`` and ``attention_mask``, ``[n, T]`` of int64, to ``embeddings`` ``[n, C]``."""
        self._nodes.append(helper.make_node("Identity", [embeddings], ["embeddings"]))
        names = ("input_ids", "attention_mask")
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "T"]) for name in names]
        output = helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", hidden_size])
        graph = helper.make_graph(self._nodes, "bert", inputs, [output], self._constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)


class BertExporter:
    """Makes the graph of one checkpoint folder. Raises ValueError for another architecture than it knows."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        pooling = json.loads((folder / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
        for source, name, expected in (
            (config, "model_type", "bert"),
            (config, "hidden_act", "gelu"),
            (pooling, "pooling_mode_mean_tokens", True),
        ):
            if source.get(name) != expected:
                raise ValueError(f"{name}: expected {expected!r}, got {source.get(name)!r}")
        self._num_layers: int = config["num_hidden_layers"]
        self._num_heads: int = config["num_attention_heads"]
        self._hidden_size: int = config["hidden_size"]
        self._epsilon: float = config["layer_norm_eps"]
        self._tensors = load_file(folder / "model.safetensors")
        self._graph = GraphBuilder()

    def export(self) -> onnx.ModelProto:
        """The whole model: rows, blocks, their mean over a sequence's tokens, scaled to length 1."""
        graph = self._graph
        mask = graph.op("Cast", "attention_mask", to=TensorProto.FLOAT)
        lowest = graph.constant(np.finfo(np.float32).min)
        blocked = graph.op("Mul", graph.op("Sub", graph.constant(1.0), mask), lowest)
        score_mask = graph.op("Unsqueeze", blocked, graph.ints(1, 2))
        rows = self._embedding()
        for layer in range(self._num_layers):
            rows = self._block(rows, score_mask, f"encoder.layer.{layer}")
        return graph.model(embeddings=self._unit_mean(rows, mask), hidden_size=self._hidden_size)

    def _embedding(self) -> str:
        graph, tensors = self._graph, self._tensors
        num_tokens = graph.op("Shape", "input_ids", start=1, end=2)
        positions = graph.constant(tensors["embeddings.position_embeddings.weight"])
        places = graph.op("Slice", positions, graph.ints(0), num_tokens)
        first_type = graph.constant(tensors["embeddings.token_type_embeddings.weight"][0])
        words = graph.op("Gather", graph.constant(tensors["embeddings.word_embeddings.weight"]), "input_ids")
        return self._norm(graph.op("Add", words, graph.op("Add", places, first_type)), "embeddings.LayerNorm")

    def _block(self, rows: str, score_mask: str, name: str) -> str:
        """Attention and feed-forward, each added to what it reads and normalised after that."""
        graph = self._graph
        mixed = self._linear(
            self._attention(rows, score_mask, f"{name}.attention.self"), f"{name}.attention.output.dense"
        )
        rows = self._norm(graph.op("Add", mixed, rows), f"{name}.attention.output.LayerNorm")
        wide = self._gelu(self._linear(rows, f"{name}.intermediate.dense"))
        return self._norm(graph.op("Add", self._linear(wide, f"{name}.output.dense"), rows), f"{name}.output.LayerNorm")

    def _attention(self, rows: str, score_mask: str, name: str) -> str:
        graph = self._graph
        head_dim = self._hidden_size // self._num_heads
        query = self._heads(rows, f"{name}.query", (0, 2, 1, 3))
        key = self._heads(rows, f"{name}.key", (0, 2, 3, 1))
        value = self._heads(rows, f"{name}.value", (0, 2, 1, 3))
        scores = graph.op("Div", graph.op("MatMul", query, key), graph.constant(head_dim**0.5))
        weights = graph.op("Softmax", graph.op("Add", scores, score_mask), axis=-1)
        mixed = graph.op("Transpose", graph.op("MatMul", weights, value), perm=(0, 2, 1, 3))
        return graph.op("Reshape", mixed, graph.ints(0, 0, self._hidden_size))

    def _heads(self, rows: str, name: str, order: tuple[int, ...]) -> str:
        shape = self._graph.ints(0, 0, self._num_heads, self._hidden_size // self._num_heads)
        return self._graph.op("Transpose", self._graph.op("Reshape", self._linear(rows, name), shape), perm=order)

    def _gelu(self, rows: str) -> str:
        """x (1 + erf(x / sqrt 2)) / 2, in the form that optimisers look for."""
        graph = self._graph
        erf = graph.op("Erf", graph.op("Div", rows, graph.constant(2**0.5)))
        doubled = graph.op("Mul", rows, graph.op("Add", erf, graph.constant(1.0)))
        return graph.op("Mul", doubled, graph.constant(0.5))

    def _unit_mean(self, rows: str, mask: str) -> str:
        """A product with each token's share in the mean: it runs on the engine's threads, and nothing is copied out."""
        graph = self._graph
        first = graph.ints(1)
        shares = graph.op("Div", mask, graph.op("ReduceSum", mask, first, keepdims=1))
        mean = graph.op("Squeeze", graph.op("MatMul", graph.op("Unsqueeze", shares, first), rows), first)
        return graph.op("Div", mean, graph.op("ReduceL2", mean, first, keepdims=1))

    def _linear(self, rows: str, name: str) -> str:
        graph, tensors = self._graph, self._tensors
        product = graph.op("MatMul", rows, graph.constant(tensors[f"{name}.weight"].T))
        return graph.op("Add", product, graph.constant(tensors[f"{name}.bias"]))

    def _norm(self, rows: str, name: str) -> str:
        graph, tensors = self._graph, self._tensors
        scale, bias = (graph.constant(tensors[f"{name}.{part}"]) for part in ("weight", "bias"))
        return graph.op("LayerNormalization", rows, scale, bias, axis=-1, epsilon=self._epsilon)
