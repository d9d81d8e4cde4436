from __future__ import annotations

import pytest
from tests.models.tiny import tiny_model

from lepton_ai.config import Policy
from lepton_ai.graph import ops
from lepton_ai.graph.attrs import KV_DTYPES, Activation, KVSpec, LinearAttrs, PoolMode
from lepton_ai.graph.graph import Graph
from lepton_ai.graph.passes.precision import apply_precision, kv_dtype, kv_specs, narrowed_matrices
from lepton_ai.graph.tensor import MAX_ROTATED_ROW, DType, Weight, symbol
from lepton_ai.graph.trace import Trace
from lepton_ai.weights.formats import WeightType

GRAPH = tiny_model("qwen2")[0].build(head="logits")


def types(matrices: WeightType, **others: WeightType) -> dict[str, WeightType]:
    """Matrices in one type, vectors in F32; ``others`` by the last part of a name."""
    found = {w.name: matrices if len(w.shape) == 2 else WeightType.F32 for w in GRAPH.weights()}
    for part, weight_type in others.items():
        found |= {name: weight_type for name in found if name.endswith(f"{part}.weight")}
    return found


def quantised(graph: Graph) -> list[str]:
    return [n.inputs[0].name for n in graph.nodes if n.op == "quantize"]


def inputs_of(graph: Graph, name: str) -> tuple[str, DType]:
    (node,) = [n for n in graph.nodes if n.name == name]
    return node.inputs[0].name, node.inputs[0].dtype


def num_terms(graph: Graph) -> dict[str, int]:
    """Terms that each matrix product reads of its input."""
    return {s.name: s.num_terms for n in graph.nodes if isinstance(n.attrs, LinearAttrs) for s in n.attrs.segments}


@pytest.mark.parametrize("matrices", [WeightType.F32, WeightType.Q4_0])
def test_exact_changes_nothing(matrices: WeightType) -> None:
    assert apply_precision(GRAPH, types(matrices), Policy.EXACT) == GRAPH


@pytest.mark.parametrize("matrices", [t for t in WeightType if t.bits <= 8])
def test_auto_quantises_the_input_of_narrow_matrices_once(matrices: WeightType) -> None:
    graph = apply_precision(GRAPH, types(matrices), Policy.AUTO)
    layer = ("attn_norm", "attn", "ffn_norm", "ffn_act")
    assert quantised(graph) == [f"blk.{n}.{name}" for n in range(2) for name in layer] + ["output_norm"]
    for name in ("attn_q", "attn_k", "attn_v"):
        assert inputs_of(graph, f"blk.0.{name}") == ("blk.0.attn_norm.q16", DType.Q16)
    assert inputs_of(graph, "blk.0.ffn_down") == ("blk.0.ffn_act.q8", DType.Q8)


@pytest.mark.parametrize("policy", [Policy.AUTO, Policy.FAST])
def test_the_head_and_values_of_attention_read_two_terms(policy: Policy) -> None:
    graph = apply_precision(GRAPH, types(WeightType.Q4_0), policy)
    terms = num_terms(graph)
    assert {name for name, count in terms.items() if count == 2} == {"logits", "blk.0.attn_v", "blk.1.attn_v"}
    assert set(terms.values()) == {1, 2}
    made = {n.outputs[0].name: n.outputs[0].dtype for n in graph.nodes if n.op == "quantize"}
    wide = {"blk.0.attn_norm.q16", "blk.1.attn_norm.q16", "output_norm.q16"}
    assert {name for name, dtype in made.items() if dtype is DType.Q16} == wide


def test_values_with_a_wide_matrix_leave_one_term_to_the_other_readers() -> None:
    graph = apply_precision(GRAPH, types(WeightType.Q4_K, attn_v=WeightType.F16), Policy.AUTO)
    assert inputs_of(graph, "blk.1.attn_q") == ("blk.1.attn_norm.q8", DType.Q8)
    assert num_terms(graph)["blk.1.attn_v"] == 0


def test_a_slice_that_ends_before_its_attention_reads_one_term() -> None:
    part = GRAPH.slice(["blk.0.ffn_residual"], ["blk.1.attn_q_rope", "blk.1.attn_v"])
    graph = apply_precision(part, types(WeightType.Q8_0), Policy.AUTO)
    assert num_terms(graph) == {"blk.1.attn_q": 1, "blk.1.attn_v": 1}
    assert quantised(graph) == ["blk.1.attn_norm"]
    assert inputs_of(graph, "blk.1.attn_v")[1] is DType.Q8


def test_a_slice_may_start_at_the_values() -> None:
    given = ["blk.1.attn_q_rope", "blk.1.attn_k_rope", "blk.1.attn_v"]
    graph = apply_precision(GRAPH.slice(given, ["blk.1.attn_output"]), types(WeightType.Q8_0), Policy.AUTO)
    assert [n.op for n in graph.nodes] == ["attention", "quantize", "linear"]
    assert num_terms(graph) == {"blk.1.attn_output": 1}


def test_an_empty_slice_stays_empty() -> None:
    empty = GRAPH.slice(["blk.0.attn"], ["blk.0.attn"])
    assert apply_precision(empty, types(WeightType.Q8_0), Policy.AUTO) == empty


@pytest.mark.parametrize("matrices", [WeightType.F32, WeightType.F16])
def test_auto_leaves_wide_matrices_in_f32(matrices: WeightType) -> None:
    graph = apply_precision(GRAPH, types(matrices), Policy.AUTO)
    assert quantised(graph) == []
    assert {s.dtype for s in kv_specs(graph)} == {DType.F16}


def test_auto_splits_readers_by_their_own_matrix() -> None:
    graph = apply_precision(GRAPH, types(WeightType.Q4_K, attn_v=WeightType.F16), Policy.AUTO)
    assert inputs_of(graph, "blk.1.attn_k") == ("blk.1.attn_norm.q8", DType.Q8)
    assert inputs_of(graph, "blk.1.attn_v") == ("blk.1.attn_norm", DType.F32)


def test_fast_narrows_only_wide_matrices() -> None:
    graph = apply_precision(GRAPH, types(WeightType.F16, attn_v=WeightType.Q6_K), Policy.FAST)
    narrowed = {n.name for n in graph.nodes if isinstance(n.attrs, LinearAttrs) and n.attrs.quantize_weights}
    linears = {n.name for n in graph.nodes if n.op == "linear"}
    assert linears - narrowed == {"blk.0.attn_v", "blk.1.attn_v"}
    assert all(n.inputs[0].dtype.num_terms for n in graph.nodes if n.op == "linear")


def products(size: int, *, tied: bool = False, is_causal: bool = True) -> Graph:
    """q, k, v of a norm, an attention with its output, and a table of the same input size that may be embedded too."""
    trace = Trace()
    x = trace.input("x", (symbol("T"), size), DType.F32)
    q, k, v = (ops.linear(x, Weight(f"{n}.weight", (size, size)), name=n) for n in "qkv")
    kv = KVSpec(size // 64, 64)
    y = ops.attention(q, k, v, num_heads=size // 64, kv=kv, layer=0, scale=0.1, is_causal=is_causal, name="attn")
    outputs = [ops.linear(y, Weight("o.weight", (size, size)), name="o")]
    active = ops.activate(outputs[0], kind=Activation.GELU, name="active")
    outputs.append(ops.linear(active, Weight("down.weight", (size, size)), name="down"))
    table = Weight("table.weight", (50, size))
    outputs.append(ops.linear(x, table, name="scores"))
    if tied:
        ids = trace.input("token_ids", (symbol("T"),), DType.I32)
        outputs.append(ops.embedding(ids, table, name="embedded"))
    return trace.finish(outputs)


def read_types(graph: Graph, policy: Policy, weight_type: WeightType = WeightType.F16) -> dict[str, DType]:
    lowered = apply_precision(graph, {w.name: weight_type for w in graph.weights()}, policy)
    return {n.name: n.inputs[0].dtype for n in lowered.nodes if n.op == "linear"}


def test_fast_rotates_what_it_narrows_unless_an_attention_makes_it() -> None:
    read = read_types(products(256), Policy.FAST)
    assert read == {**dict.fromkeys(["q", "k", "v", "scores", "down"], DType.R8), "o": DType.Q8}


def test_rows_of_an_encoder_have_one_scale_but_those_of_an_activation() -> None:
    read = read_types(products(256, is_causal=False), Policy.FAST)
    assert read == {**dict.fromkeys(["q", "k", "v", "scores", "o"], DType.R8_ROW), "down": DType.R8}
    assert DType.R8_ROW not in read_types(products(MAX_ROTATED_ROW + 128, is_causal=False), Policy.FAST).values()


def test_only_whole_blocks_are_rotated() -> None:
    assert DType.R8 not in read_types(products(192), Policy.FAST).values()


def test_a_table_that_is_embedded_too_is_not_rotated() -> None:
    read = read_types(products(256, tied=True), Policy.FAST)
    assert (read["q"], read["scores"]) == (DType.R8, DType.Q8)


def test_stored_codes_are_not_rotated() -> None:
    for policy in (Policy.AUTO, Policy.FAST):
        assert DType.R8 not in read_types(products(256), policy, WeightType.Q8_0).values()
    assert set(read_types(products(256), Policy.AUTO).values()) == {DType.F32}


def test_the_rotated_and_the_plain_readers_of_a_tensor_have_a_node_each() -> None:
    graph = products(256)
    stored = {w.name: WeightType.F16 for w in graph.weights()} | {"k.weight": WeightType.Q8_0}
    lowered = apply_precision(graph, stored, Policy.FAST)
    made = {n.name: n.outputs[0].dtype for n in lowered.nodes if n.op == "quantize"}
    assert made == {"x.r8": DType.R8, "x.q8": DType.Q8, "attn.q8": DType.Q8, "active.r8": DType.R8}
    assert narrowed_matrices(lowered) == {
        **dict.fromkeys(["q.weight", "v.weight", "table.weight", "down.weight"], DType.R8),
        "o.weight": DType.Q8,
    }


def test_auto_never_narrows_a_weight() -> None:
    graph = apply_precision(GRAPH, types(WeightType.Q8_0, ffn_up=WeightType.F32), Policy.AUTO)
    assert not any(n.attrs.quantize_weights for n in graph.nodes if isinstance(n.attrs, LinearAttrs))


def test_scoring_head_reads_quantised_rows_and_its_targets() -> None:
    graph = tiny_model("qwen2")[0].build(head="logprobs")
    node = apply_precision(graph, types(WeightType.Q8_0), Policy.AUTO).nodes[-1]
    assert [(t.name, t.dtype) for t in node.inputs] == [("output_norm.q16", DType.Q16), ("targets", DType.I32)]
    assert isinstance(node.attrs, LinearAttrs) and node.attrs.segments[0].num_terms == 2


@pytest.mark.parametrize(
    ("policy", "dtype"), [(Policy.EXACT, DType.F32), (Policy.AUTO, DType.F16), (Policy.FAST, DType.F16)]
)
def test_cache_dtype_follows_the_policy(policy: Policy, dtype: DType) -> None:
    assert kv_dtype(policy) is dtype
    specs = kv_specs(apply_precision(GRAPH, types(WeightType.Q4_0), policy))
    assert [(s.num_heads, s.head_dim, s.dtype) for s in specs] == [(2, 16, dtype)] * 2


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("wanted", KV_DTYPES)
def test_a_cache_dtype_that_is_asked_for(policy: Policy, wanted: DType) -> None:
    assert kv_dtype(policy, wanted) is wanted
    graph = apply_precision(GRAPH, types(WeightType.Q4_0), policy, cache_dtype=wanted)
    assert {spec.dtype for spec in kv_specs(graph)} == {wanted}
    assert num_terms(graph) == num_terms(apply_precision(GRAPH, types(WeightType.Q4_0), policy))


def test_the_head_of_whole_sequences_reads_two_terms() -> None:
    trace = Trace()
    x = trace.input("x", (symbol("T"), 32), DType.F32)
    hidden = ops.linear(x, Weight("w0", (32, 32)), name="hidden")
    scores = ops.linear(ops.pool(hidden, mode=PoolMode.CLS, name="pooled"), Weight("w1", (2, 32)), name="scores")
    graph = apply_precision(trace.finish([scores]), dict.fromkeys(("w0", "w1"), WeightType.Q8_0), Policy.AUTO)
    assert num_terms(graph) == {"hidden": 1, "scores": 2}
