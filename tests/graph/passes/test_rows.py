from __future__ import annotations

from tests.models.tiny import tiny_model

from lepton_ai.config import Policy
from lepton_ai.graph import ops
from lepton_ai.graph.graph import Graph
from lepton_ai.graph.passes.precision import apply_precision
from lepton_ai.graph.passes.rows import narrow_rows
from lepton_ai.graph.tensor import DType, Weight, symbol
from lepton_ai.graph.trace import Trace, Value
from lepton_ai.weights.formats import WeightType

T, R = symbol("T"), symbol("R")


def precise(graph: Graph, policy: Policy = Policy.AUTO) -> Graph:
    types = {w.name: WeightType.Q4_0 if len(w.shape) == 2 else WeightType.F32 for w in graph.weights()}
    return apply_precision(graph, types, policy)


def rows_of(graph: Graph) -> dict[str, object]:
    return {t.name: t.shape[0] for n in graph.nodes for t in n.outputs}


def inputs(trace: Trace) -> tuple[Value, Value]:
    return trace.input("x", (T, 64), DType.F32), trace.input("rows", (R,), DType.I32)


def linear(x: Value, name: str) -> Value:
    return ops.linear(x, Weight(f"{name}.weight", (64, 64)), name=name)


def test_what_follows_the_last_attention_runs_for_the_wanted_rows() -> None:
    graph = narrow_rows(precise(tiny_model()[0].build(head="logits")))
    rows = rows_of(graph)
    last = {"blk.1.attn.rows", "blk.0.ffn_residual.rows", "blk.1.attn_output", "blk.1.ffn_down", "blk.1.ffn_residual"}
    assert {name for name, size in rows.items() if size == R} >= {*last, "output_norm", "logits"}
    assert rows["blk.1.attn"] == rows["blk.0.ffn_residual"] == rows["blk.1.attn_q"] == T
    assert "output_rows" not in rows
    assert [n.name for n in graph.nodes if n.op == "gather_rows"] == ["blk.1.attn.rows", "blk.0.ffn_residual.rows"]


def test_only_the_heads_input_has_two_terms() -> None:
    graph = narrow_rows(precise(tiny_model()[0].build(head="logits")))
    narrow = [t for n in graph.nodes for t in n.outputs if t.shape[0] == R]
    assert [t.name for t in narrow if t.dtype is DType.Q16] == ["output_norm.q16"]


def test_kept_tensors_keep_their_rows() -> None:
    graph = precise(tiny_model()[0].build(head="logits"))
    assert narrow_rows(graph, ("output_rows",)) == graph
    rows = rows_of(narrow_rows(graph, ("blk.1.ffn_norm",)))
    assert rows["blk.1.ffn_norm"] == rows["blk.1.attn_residual"] == rows["blk.1.attn_output"] == T
    assert rows["blk.1.ffn_norm.q8"] == rows["blk.1.ffn_down"] == rows["blk.1.ffn_residual"] == R


def test_an_output_keeps_its_rows() -> None:
    trace = Trace()
    x, rows = inputs(trace)
    middle = linear(x, "middle")
    graph = trace.finish([middle, ops.gather_rows(linear(middle, "last"), rows, name="y")])
    assert narrow_rows(graph) == graph  # the gather is itself an output, under its name


def test_integers_are_never_gathered() -> None:
    trace = Trace()
    x, rows = inputs(trace)
    shared, other = linear(x, "shared"), linear(x, "other")
    graph = trace.finish([linear(ops.gather_rows(shared, rows, name="gathered"), "y"), other])
    lowered = precise(graph)
    assert narrow_rows(lowered) == lowered  # the 8-bit rows of x serve all rows of "other" too


def test_a_tensor_that_two_gathered_nodes_read_is_gathered_once() -> None:
    trace = Trace()
    x, rows = inputs(trace)
    total = ops.add(linear(x, "a"), x, name="total")
    graph = narrow_rows(trace.finish([linear(ops.gather_rows(total, rows, name="gathered"), "y")]))
    assert [n.name for n in graph.nodes] == ["x.rows", "a", "total", "y"]
    assert rows_of(graph) == dict.fromkeys(["x.rows", "a", "total", "y"], R)
