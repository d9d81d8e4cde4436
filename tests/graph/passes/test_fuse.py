from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest
from tests.models.tiny import tiny_model

from lepton_ai.config import Policy
from lepton_ai.graph import ops
from lepton_ai.graph.attrs import (
    ActivatedLinearAttrs,
    Activation,
    ActivationAttrs,
    AttentionAttrs,
    LinearAttrs,
    NormAttrs,
    NormKind,
    RopeAttrs,
)
from lepton_ai.graph.graph import Graph, check
from lepton_ai.graph.node import Node, segment_weights
from lepton_ai.graph.passes.fuse import (
    REWRITES,
    Rewrite,
    fuse,
    fuse_activated_linear,
    fuse_add_norm,
    fuse_gated_linear,
    fuse_linears,
    fuse_quantize,
    fuse_rope,
)
from lepton_ai.graph.passes.precision import apply_precision
from lepton_ai.graph.tensor import DType, Tensor, Weight, symbol
from lepton_ai.graph.trace import Trace
from lepton_ai.weights.formats import WeightType


def traced(policy: Policy = Policy.EXACT, head_dim: int = 32) -> Graph:
    """A two-layer model, q/k/v with biases, matrices in Q4_0."""
    model, _ = tiny_model("qwen2", {"attention.key_length": head_dim})
    graph = model.build(head="logits")
    types = {w.name: WeightType.Q4_0 if len(w.shape) == 2 else WeightType.F32 for w in graph.weights()}
    return apply_precision(graph, types, policy)


def node(graph: Graph, name: str) -> Node:
    (found,) = [n for n in graph.nodes if n.name == name]
    return found


def names(graph: Graph) -> set[str]:
    return {t.name for n in graph.nodes for t in n.outputs}


def f32_names(graph: Graph) -> set[str]:
    return {t.name for n in graph.nodes for t in n.outputs if t.dtype is DType.F32}


def activated(kept: Collection[str] = (), *, is_output: bool = False) -> Graph:
    trace = Trace()
    x = trace.input("x", (symbol("T"), 32), DType.F32)
    product = ops.linear(x, Weight("w", (48, 32)), name="product", bias=Weight("b", (48,)))
    act = ops.activate(product, kind=Activation.GELU, name="act")
    return fuse_activated_linear(trace.finish([act, product] if is_output else [act]), kept)


def test_fuse_activated_linear() -> None:
    (fused,) = activated().nodes
    assert (fused.op, fused.name, [w.name for w in fused.weights]) == ("activated_linear", "act", ["w", "b"])
    assert isinstance(fused.attrs, ActivatedLinearAttrs) and fused.attrs.kind is Activation.GELU


def test_fuse_activated_linear_spares_a_product_that_is_wanted() -> None:
    for graph in (activated({"product"}), activated(is_output=True)):
        assert [n.op for n in graph.nodes] == ["linear", "activate"]


def test_fuse_linears_keeps_segments_outputs_and_biases() -> None:
    graph = traced()
    fused = fuse_linears(graph)
    qkv = node(fused, "blk.0.attn_q")
    assert [t.name for t in qkv.outputs] == ["blk.0.attn_q", "blk.0.attn_k", "blk.0.attn_v"]
    assert isinstance(qkv.attrs, LinearAttrs)
    assert [(s.name, s.num_outputs) for s in qkv.attrs.segments] == [
        ("blk.0.attn_q", 128), ("blk.0.attn_k", 64), ("blk.0.attn_v", 64),
    ]  # fmt: skip
    assert [w.name for w in qkv.weights] == [f"blk.0.attn_{s}.{part}" for s in "qkv" for part in ("weight", "bias")]
    assert [(m.name, b is not None and b.name) for _, m, b in segment_weights(qkv)][1] == (
        "blk.0.attn_k.weight", "blk.0.attn_k.bias",
    )  # fmt: skip
    assert names(fused) == names(graph)
    assert graph.weights() != () and {w.name for w in fused.weights()} == {w.name for w in graph.weights()}


def test_fuse_linears_leaves_readers_of_other_tensors_alone() -> None:
    fused = fuse_linears(traced())
    assert node(fused, "blk.0.attn_output") == node(traced(), "blk.0.attn_output")


def test_fuse_linears_merges_the_wish_to_narrow() -> None:
    trace = Trace()
    x = trace.input("x", (symbol("T"), 32), DType.F32)
    wide, narrow = (ops.linear(x, Weight(f"w{i}", (8, 32)), name=f"y{i}") for i in range(2))
    graph = trace.finish([wide, narrow])
    types = {"w0": WeightType.F16, "w1": WeightType.Q8_0}
    (merged,) = [n for n in fuse_linears(apply_precision(graph, types, Policy.FAST)).nodes if n.op == "linear"]
    assert isinstance(merged.attrs, LinearAttrs) and merged.attrs.quantize_weights


def test_fuse_gated_linear() -> None:
    fused = fuse_gated_linear(traced())
    gated = node(fused, "blk.1.ffn_act")
    assert gated.op == "gated_linear"
    assert [t.name for t in gated.inputs] == ["blk.1.ffn_norm"]
    assert isinstance(gated.attrs, ActivatedLinearAttrs)
    assert gated.attrs.kind is Activation.SILU
    assert [(s.name, s.num_outputs) for s in gated.attrs.segments] == [("blk.1.ffn_gate", 96), ("blk.1.ffn_up", 96)]
    assert [w.name for w in gated.weights] == ["blk.1.ffn_gate.weight", "blk.1.ffn_up.weight"]
    assert names(traced()) - names(fused) == {f"blk.{n}.ffn_{s}" for n in range(2) for s in ("gate", "up")}


@pytest.mark.parametrize("kept", ["blk.1.ffn_gate", "blk.1.ffn_up"])
def test_fuse_gated_linear_spares_kept_parts(kept: str) -> None:
    fused = fuse_gated_linear(traced(), {kept})
    assert kept in names(fused)
    assert node(fused, "blk.1.ffn_act").op == "gated"
    assert node(fused, "blk.0.ffn_act").op == "gated_linear"


@pytest.mark.parametrize("kind", list(Activation))
def test_fuse_gated_linear_keeps_the_activation(kind: Activation) -> None:
    trace = Trace()
    x = trace.input("x", (symbol("T"), 32), DType.F32)
    gate, up = (ops.linear(x, Weight(name, (8, 32)), name=name) for name in ("gate", "up"))
    (gated,) = fuse_gated_linear(trace.finish([ops.gated(gate, up, kind=kind, name="act")])).nodes
    assert isinstance(gated.attrs, ActivatedLinearAttrs) and gated.attrs.kind is kind


@pytest.mark.parametrize("policy", [Policy.AUTO, Policy.FAST])
def test_fuse_quantize_folds_into_an_activation(policy: Policy) -> None:
    trace = Trace()
    x = trace.input("x", (symbol("R"), 32), DType.F32)
    made = ops.activate(x, kind=Activation.GELU, name="act")
    graph = trace.finish([ops.linear(made, Weight("w", (32, 32)), name="out")])
    first = fuse(apply_precision(graph, {"w": WeightType.Q8_0}, policy)).nodes[0]
    assert (first.op, first.attrs) == ("activate", ActivationAttrs(Activation.GELU, quantize=True))
    assert first.outputs[0].dtype is DType.Q16


def test_fuse_gated_linear_needs_one_input() -> None:
    trace = Trace()
    x, y = (trace.input(name, (symbol("T"), 32), DType.F32) for name in "xy")
    gate = ops.linear(x, Weight("g", (8, 32)), name="gate")
    up = ops.linear(y, Weight("u", (8, 32)), name="up")
    graph = trace.finish([ops.gated(gate, up, kind=Activation.GELU, name="act")])
    assert fuse_gated_linear(graph) == graph


def test_fuse_gated_linear_spares_a_part_that_is_an_output() -> None:
    trace = Trace()
    x = trace.input("x", (symbol("T"), 32), DType.F32)
    gate, up = (ops.linear(x, Weight(name, (8, 32)), name=name) for name in ("gate", "up"))
    graph = trace.finish([ops.gated(gate, up, kind=Activation.GELU, name="act"), gate])
    assert fuse_gated_linear(graph) == graph


def test_fuse_add_norm_makes_both_tensors_at_the_place_of_the_add() -> None:
    graph = traced()
    fused = fuse_add_norm(graph)
    both = node(fused, "blk.0.attn_residual")
    assert both.op == "add_norm"
    assert [t.name for t in both.outputs] == ["blk.0.attn_residual", "blk.0.ffn_norm"]
    assert [w.name for w in both.weights] == ["blk.0.ffn_norm.weight"]
    assert both.attrs == NormAttrs(1e-5)
    assert names(fused) == names(graph)
    # The first norm follows the embedding, and the last add is gathered before its norm.
    assert node(fused, "blk.0.attn_norm").op == "rms_norm"
    assert node(fused, "blk.1.ffn_residual").op == "add"


def test_fuse_add_norm_takes_one_norm_of_two() -> None:
    trace = Trace()
    x = trace.input("x", (symbol("T"), 8), DType.F32)
    total = ops.add(x, x, name="sum")
    normed = [ops.rms_norm(total, Weight(f"w{i}", (8,)), eps=1e-5, name=f"n{i}") for i in range(2)]
    fused = fuse_add_norm(trace.finish(normed))
    check(fused)
    assert [n.op for n in fused.nodes] == ["add_norm", "rms_norm"]


def test_fuse_add_norm_keeps_the_kind_of_the_norm() -> None:
    trace = Trace()
    x = trace.input("x", (symbol("T"), 32), DType.F32)
    normed = ops.layer_norm(ops.add(x, x, name="sum"), Weight("n", (32,)), Weight("b", (32,)), eps=1e-12, name="normed")
    graph = trace.finish([ops.linear(normed, Weight("w", (32, 32)), name="out")])
    types = {"n": WeightType.F32, "b": WeightType.F32, "w": WeightType.Q8_0}
    both = fuse(apply_precision(graph, types, Policy.AUTO)).nodes[0]
    assert (both.op, both.attrs) == ("add_norm", NormAttrs(1e-12, NormKind.LAYER, quantize=True))
    assert [t.name for t in both.outputs] == ["sum", "normed.q8"]
    assert [w.name for w in both.weights] == ["n", "b"]


def test_fuse_rope_gives_attention_the_table() -> None:
    fused = fuse_rope(traced())
    attention = node(fused, "blk.1.attn")
    assert [t.name for t in attention.inputs] == ["blk.1.attn_q", "blk.1.attn_k", "blk.1.attn_v", "rope_table"]
    assert isinstance(attention.attrs, AttentionAttrs)
    assert attention.attrs.rope == RopeAttrs(32, interleaved=False)
    assert "rope" not in {n.op for n in fused.nodes}


@pytest.mark.parametrize("kept", ["blk.0.attn_q_rope", "blk.0.attn_k_rope"])
def test_fuse_rope_spares_kept_rotations(kept: str) -> None:
    fused = fuse_rope(traced(), {kept})
    assert {"blk.0.attn_q_rope", "blk.0.attn_k_rope"} <= names(fused)
    assert "blk.1.attn_q_rope" not in names(fused)


@pytest.mark.parametrize(
    ("rewrites", "producer", "op", "index", "dtype"),
    [
        ((), "blk.0.attn_norm", "rms_norm", 0, DType.Q16),
        ((), "blk.0.ffn_norm", "rms_norm", 0, DType.Q8),
        ((), "blk.0.attn", "attention", 0, DType.Q8),
        ((), "blk.0.ffn_act", "gated", 0, DType.Q8),
        ((fuse_gated_linear,), "blk.0.ffn_act", "gated_linear", 0, DType.Q8),
        ((fuse_add_norm,), "blk.0.attn_residual", "add_norm", 1, DType.Q8),
        ((fuse_add_norm,), "blk.0.ffn_residual", "add_norm", 1, DType.Q16),
    ],
)
def test_fuse_quantize_folds_into(
    rewrites: tuple[Rewrite, ...], producer: str, op: str, index: int, dtype: DType
) -> None:
    graph = traced(Policy.AUTO)
    for rewrite in rewrites:
        graph = rewrite(graph, ())
    before = node(graph, producer)
    assert before.op == op
    fused = fuse_quantize(graph)
    check(fused)
    after = node(fused, producer)
    made = after.outputs[index]
    assert (made.name, made.dtype) == (f"{before.outputs[index].name}.{dtype.value}", dtype)
    assert getattr(after.attrs, "quantize") is True  # noqa: B009
    assert after.outputs[:index] == before.outputs[:index]
    assert before.outputs[index].name not in names(fused)


def test_fuse_quantize_needs_whole_groups_in_a_head() -> None:
    fused = fuse_quantize(traced(Policy.AUTO, head_dim=16))
    assert node(fused, "blk.0.attn.q8").op == "quantize"
    assert node(fused, "blk.0.attn").outputs[0].dtype is DType.F32


@pytest.mark.parametrize("producer", ["blk.0.attn", "blk.0.ffn_act"])
def test_attention_and_gated_linear_make_one_term(producer: str) -> None:
    graph = fuse_gated_linear(traced(Policy.AUTO))
    wider = {t.id: replace(t, dtype=DType.Q16) for n in graph.nodes for t in n.outputs if t.name == f"{producer}.q8"}
    assert len(wider) == 1
    graph = Graph(graph.inputs, tuple(_with_tensors(n, wider) for n in graph.nodes), graph.outputs)
    fused = fuse_quantize(graph)
    assert node(fused, f"{producer}.q8").op == "quantize"
    assert node(fused, producer) == node(graph, producer)


def _with_tensors(n: Node, changed: Mapping[int, Tensor]) -> Node:
    inputs = tuple(changed.get(t.id, t) for t in n.inputs)
    return replace(n, inputs=inputs, outputs=tuple(changed.get(t.id, t) for t in n.outputs))


@pytest.mark.parametrize(
    ("kept", "suffix"), [("blk.0.attn_norm", "q16"), ("blk.0.ffn_norm", "q8"), ("blk.0.attn", "q8")]
)
def test_fuse_quantize_spares_kept_values(kept: str, suffix: str) -> None:
    fused = fuse_quantize(traced(Policy.AUTO), {kept})
    assert kept in f32_names(fused)
    assert node(fused, f"{kept}.{suffix}").op == "quantize"


def test_fused_linears_keep_the_terms_of_each_segment() -> None:
    qkv = node(fuse(traced(Policy.AUTO)), "blk.1.attn_q")
    assert [(t.name, t.dtype) for t in qkv.inputs] == [("blk.1.attn_norm.q16", DType.Q16)]
    assert isinstance(qkv.attrs, LinearAttrs)
    assert [s.num_terms for s in qkv.attrs.segments] == [1, 1, 2]


def test_fuse_quantize_needs_to_be_the_only_reader() -> None:
    trace = Trace()
    x = trace.input("x", (symbol("T"), 32), DType.F32)
    normed = ops.rms_norm(x, Weight("n", (32,)), eps=1e-5, name="normed")
    out = ops.add(ops.linear(normed, Weight("w", (32, 32)), name="y"), normed, name="out")
    graph = apply_precision(trace.finish([out]), {"n": WeightType.F32, "w": WeightType.Q8_0}, Policy.AUTO)
    assert fuse_quantize(graph) == graph


def test_a_whole_quantised_model() -> None:
    fused = fuse(traced(Policy.AUTO))
    assert Counter(n.op for n in fused.nodes) == {
        "embedding": 1, "rope_table": 1, "rms_norm": 2, "linear": 7, "attention": 2, "add_norm": 3,
        "gated_linear": 2, "add": 1, "gather_rows": 1,
    }  # fmt: skip
    layer = [n.op for n in fused.nodes[3:10]]
    assert layer == ["linear", "attention", "linear", "add_norm", "gated_linear", "linear", "add_norm"]


ALL_NAMES = sorted(names(traced()))


@pytest.mark.parametrize("policy", [Policy.EXACT, Policy.AUTO])
def test_no_fusion_removes_a_kept_tensor(policy: Policy) -> None:
    for kept in ALL_NAMES:
        assert kept in f32_names(fuse(traced(policy), {kept})), kept
    everything = fuse(traced(policy), ALL_NAMES)
    assert set(ALL_NAMES) <= f32_names(everything)


@pytest.mark.parametrize("rewrite", [*REWRITES, fuse])
@pytest.mark.parametrize("keep", [(), ALL_NAMES])
def test_every_rewrite_is_idempotent_and_keeps_outputs(rewrite: Rewrite, keep: Collection[str]) -> None:
    once = rewrite(traced(Policy.AUTO), keep)
    assert rewrite(once, keep) == once
    assert once.outputs == traced(Policy.AUTO).outputs
