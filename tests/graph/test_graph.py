from __future__ import annotations

import pytest
from tests.models.tiny import tiny_model

from lepton_ai.errors import InvalidRequest
from lepton_ai.graph import ops
from lepton_ai.graph.attrs import KVSpec, kv_groups
from lepton_ai.graph.graph import Graph, check
from lepton_ai.graph.node import segment_weights
from lepton_ai.graph.tensor import DType, Weight, symbol
from lepton_ai.graph.trace import Trace

GRAPH = tiny_model()[0].build(head="logits")


def test_ops_name_their_tensors_and_keep_order() -> None:
    assert [n.op for n in GRAPH.nodes[:3]] == ["embedding", "rope_table", "rms_norm"]
    assert GRAPH.tensor("blk.1.ffn_norm").shape == (symbol("T"), 64)
    assert all(n.op in ops.OPS for n in GRAPH.nodes)


def test_weights_come_once_in_order_of_first_use() -> None:
    names = [w.name for w in tiny_model(tied=True)[0].build(head="logits").weights()]
    assert names[0] == "token_embd.weight"
    assert names.count("token_embd.weight") == 1


def test_an_unknown_tensor_is_an_error() -> None:
    with pytest.raises(InvalidRequest, match=r"no tensor called 'blk\.9\.attn'"):
        GRAPH.tensor("blk.9.attn")


def test_slice_from_one_tensor_to_another() -> None:
    part = GRAPH.slice(["blk.0.ffn_residual"], ["blk.1.attn_residual"])
    check(part)
    assert [t.name for t in part.inputs] == ["blk.0.ffn_residual", "positions"]
    assert {n.name for n in part.nodes if n.name.startswith("blk.")} == {
        f"blk.1.{name}"
        for name in (
            "attn_norm", "attn_q", "attn_k", "attn_v", "attn_q_rope", "attn_k_rope",
            "attn", "attn_output", "attn_residual",
        )
    }  # fmt: skip


def test_slice_to_its_own_input_is_empty() -> None:
    part = GRAPH.slice(["blk.0.attn"], ["blk.0.attn"])
    assert (part.nodes, part.inputs) == ((), part.outputs)


def test_check_finds_a_node_that_reads_too_early() -> None:
    with pytest.raises(AssertionError, match="before it is made"):
        check(Graph(GRAPH.inputs, GRAPH.nodes[::-1], GRAPH.outputs))


def test_check_finds_a_tensor_made_twice() -> None:
    with pytest.raises(AssertionError, match="made twice"):
        check(Graph(GRAPH.inputs, (*GRAPH.nodes, GRAPH.nodes[0]), GRAPH.outputs))


def test_a_name_cannot_be_used_twice() -> None:
    trace = Trace()
    x = trace.input("x", (symbol("T"), 8), DType.F32)
    with pytest.raises(AssertionError, match="two tensors are called x"):
        trace.finish([ops.add(x, x, name="x")])


def test_segment_weights_pair_matrices_with_biases() -> None:
    trace = Trace()
    x = trace.input("x", (symbol("T"), 8), DType.F32)
    matrix, bias = Weight("w", (4, 8)), Weight("b", (4,))
    with_bias = trace.finish([ops.linear(x, matrix, name="y", bias=bias)])
    ((segment, found_matrix, found_bias),) = segment_weights(with_bias.nodes[0])
    assert (segment.name, segment.num_outputs, found_matrix, found_bias) == ("y", 4, matrix, bias)


def test_kv_groups_come_in_the_order_of_their_first_layer() -> None:
    wide, narrow = KVSpec(2, 64), KVSpec(2, 64, window=128)
    assert list(kv_groups([narrow, wide, narrow]).items()) == [(narrow, (0, 2)), (wide, (1,))]


def test_bytes_per_token_count_keys_and_values() -> None:
    assert (KVSpec(3, 64).bytes_per_token, KVSpec(3, 64, DType.F16).bytes_per_token) == (1536, 768)
    # Codes and a scale, twice; of the base, a 16th.
    assert KVSpec(3, 64, DType.I8).bytes_per_token == 3 * (2 * (64 + 4) + 5 + 3)
    assert KVSpec(1, 256, DType.I8).bytes_per_token == 2 * (256 + 4) + 17 + 3


@pytest.mark.parametrize(
    ("head_dim", "rotation"), [(16, 16), (48, 16), (64, 64), (80, 16), (96, 32), (128, 128), (192, 64), (256, 256)]
)
def test_whole_parts_of_a_head_are_rotated(head_dim: int, rotation: int) -> None:
    assert (KVSpec(1, head_dim, DType.I8).rotation, KVSpec(1, head_dim, DType.F16).rotation) == (rotation, 1)
