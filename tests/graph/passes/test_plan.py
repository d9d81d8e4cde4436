from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.tiny import tiny_model

from lepton_ai.config import Limits, Policy
from lepton_ai.errors import InvalidRequest
from lepton_ai.graph import ops
from lepton_ai.graph.graph import Graph
from lepton_ai.graph.passes import lower
from lepton_ai.graph.passes.plan import Plan, format_plan, lifetimes, plan
from lepton_ai.graph.tensor import DType, Weight, q8_row_bytes, symbol
from lepton_ai.graph.trace import Trace, Value
from lepton_ai.weights.formats import WeightType

LIMITS = Limits(max_tokens=7, max_rows=3, max_seqs=2)
GRAPH = tiny_model("llama", {"attention.key_length": 32})[0].build(head="logits")
TYPES = {w.name: WeightType.Q4_0 if len(w.shape) == 2 else WeightType.F32 for w in GRAPH.weights()}


def check_no_overlap(made: Plan) -> None:
    """Tensors that are alive together lie apart, but for the sum of an elementwise op on an input that dies there."""
    life = lifetimes(made.graph, {t.id for t in made.results})
    may_share = {
        (x.id, n.outputs[0].id)
        for index, n in enumerate(made.graph.nodes)
        if n.op in ("add", "add_norm", "activate", "gated", "l2_normalize")
        for x in n.inputs
        if x.id in life and life[x.id][1] == index
    }
    for a, b in combinations(sorted(life), 2):
        if life[a][1] < life[b][0] or life[b][1] < life[a][0]:
            continue
        x, y = made.buffers[a], made.buffers[b]
        apart = x.offset + x.num_bytes <= y.offset or y.offset + y.num_bytes <= x.offset
        assert apart or (x == y and {(a, b), (b, a)} & may_share), f"tensors {a} {x} and {b} {y}"


def test_layouts_of_matrices_vectors_and_quantised_rows() -> None:
    made = lower(GRAPH, TYPES, Policy.AUTO, limits=LIMITS)
    buffers = {t.name: made.buffers[t.id] for n in made.graph.nodes for t in n.outputs}
    assert (buffers["token_embd"].row_bytes, buffers["token_embd"].num_bytes) == (256, 7 * 256)
    assert (buffers["logits"].row_bytes, buffers["logits"].num_bytes) == (256, 3 * 256)  # 50 columns
    assert buffers["blk.0.ffn_norm.q8"].row_bytes == q8_row_bytes(64)
    two_terms = buffers["blk.0.attn_norm.q16"]
    assert (two_terms.row_bytes, two_terms.num_bytes) == (2 * q8_row_bytes(64), 7 * 2 * q8_row_bytes(64))
    scoring = lower(tiny_model()[0].build(head="logprobs"), TYPES, Policy.EXACT, limits=LIMITS)
    last = scoring.buffers[scoring.graph.outputs[0].id]
    assert (last.row_bytes, last.num_bytes) == (4, 64)


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("taps", [(), ("blk.0.attn_norm", "blk.1.ffn_gate", "token_embd")])
def test_a_model_plan_is_sound(policy: Policy, taps: tuple[str, ...]) -> None:
    made = lower(GRAPH, TYPES, policy, limits=LIMITS, taps=taps)
    check_no_overlap(made)
    assert [t.name for t in made.results] == ["logits", *taps]
    assert set(made.buffers) == {t.id for n in made.graph.nodes for t in n.outputs}
    assert all(b.offset % 64 == 0 for b in made.buffers.values())
    assert made.arena_bytes == max(b.offset + b.num_bytes for b in made.buffers.values())


def test_the_arena_reuses_memory_and_taps_cost_theirs() -> None:
    made = lower(GRAPH, TYPES, Policy.EXACT, limits=LIMITS)
    assert made.arena_bytes < sum(b.num_bytes for b in made.buffers.values()) / 2
    layers = tiny_model("llama", {"block_count": 12})[0].build(head="logits")
    types = {w.name: WeightType.F32 for w in layers.weights()}
    two = tiny_model("llama")[0].build(head="logits")
    arenas = [lower(g, types, Policy.EXACT, limits=LIMITS).arena_bytes for g in (two, layers)]
    assert arenas[0] == arenas[1], "depth must not cost arena"


def test_the_residual_is_added_in_place() -> None:
    made = lower(GRAPH, TYPES, Policy.AUTO, limits=LIMITS)
    offsets = {t.name: made.buffers[t.id].offset for n in made.graph.nodes for t in n.outputs}
    whole = ["token_embd", "blk.0.attn_residual", "blk.0.ffn_residual"]
    wanted = ["blk.0.ffn_residual.rows", "blk.1.attn_residual", "blk.1.ffn_residual"]
    assert {offsets[name] for name in whole} == {offsets["token_embd"]}
    assert {offsets[name] for name in wanted} == {offsets["blk.0.ffn_residual.rows"]}


def test_a_tapped_residual_is_not_overwritten() -> None:
    made = lower(GRAPH, TYPES, Policy.AUTO, limits=LIMITS, taps=("blk.0.attn_residual",))
    check_no_overlap(made)
    kept = made.buffers[made.graph.tensor("blk.0.attn_residual").id]
    later = made.buffers[made.graph.tensor("blk.0.ffn_residual").id]
    assert kept.offset != later.offset


@pytest.mark.parametrize("name", ["blk.7.attn", "token_ids", "blk.0.attn_norm.q8"])
def test_an_unknown_tap_is_an_error(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"taps: the graph makes no tensor"):
        lower(GRAPH, TYPES, Policy.AUTO, limits=LIMITS, taps=(name,))


def test_plan_without_nodes_is_empty() -> None:
    empty = GRAPH.slice(["blk.0.attn"], ["blk.0.attn"])
    assert (plan(empty, LIMITS).arena_bytes, plan(empty, LIMITS).buffers) == (0, {})


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, tuple[str, ...]]:
    """Random programs of adds, linears and norms over tensors of several widths, with random outputs and taps."""
    trace = Trace()
    rows = {"T": symbol("T"), "R": symbol("R")}
    values: list[Value] = [
        trace.input(f"in{i}", (rows[draw(st.sampled_from("TR"))], draw(st.sampled_from([8, 40]))), DType.F32)
        for i in range(2)
    ]
    for index in range(draw(st.integers(1, 14))):
        x = draw(st.sampled_from(values))
        same = [v for v in values if v.shape == x.shape]
        width = x.shape[-1]
        assert isinstance(width, int)
        kind = draw(st.sampled_from(["add", "linear", "norm"]))
        if kind == "add":
            made = ops.add(x, draw(st.sampled_from(same)), name=f"t{index}")
        elif kind == "linear":
            made = ops.linear(x, Weight(f"w{index}", (draw(st.sampled_from([8, 40])), width)), name=f"t{index}")
        else:
            made = ops.rms_norm(x, Weight(f"w{index}", (width,)), eps=1e-5, name=f"t{index}")
        values.append(made)
    outputs = draw(st.lists(st.sampled_from(values[2:]), min_size=1, max_size=3, unique_by=lambda v: v.tensor.id))
    taps = draw(st.lists(st.sampled_from([v.tensor.name for v in values[2:]]), max_size=3, unique=True))
    return trace.finish(outputs), tuple(taps)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(program=graphs(), policy=st.sampled_from(list(Policy)), tokens=st.integers(1, 9))
def test_no_two_live_tensors_overlap(program: tuple[Graph, tuple[str, ...]], policy: Policy, tokens: int) -> None:
    graph, taps = program
    types = {w.name: WeightType.Q8_0 if len(w.shape) == 2 else WeightType.F32 for w in graph.weights()}
    made = lower(graph, types, policy, limits=Limits(tokens, 3, 2), taps=taps)
    check_no_overlap(made)
    for tensor in made.results:
        assert tensor.dtype is DType.F32


def test_format_plan_has_a_row_for_each_tensor() -> None:
    made = lower(GRAPH, TYPES, Policy.AUTO, limits=LIMITS)
    rows = format_plan(made, TYPES)
    assert [r.name for r in rows] == [t.name for n in made.graph.nodes for t in n.outputs]
    qkv = next(i for i, r in enumerate(rows) if r.name == "blk.0.attn_q")
    assert (rows[qkv].op, rows[qkv].shape, rows[qkv].dtype) == ("linear", "[T, 128]", "f32")
    assert rows[qkv].inputs == ("blk.0.attn_norm.q16 [T, 64] q16",)
    assert rows[qkv].weights[0] == "blk.0.attn_q.weight (128, 64) Q4_0"
    assert (rows[qkv + 1].name, rows[qkv + 1].inputs, rows[qkv + 1].weights) == ("blk.0.attn_k", (), ())
    assert max(r.offset + r.num_bytes for r in rows) == made.arena_bytes
