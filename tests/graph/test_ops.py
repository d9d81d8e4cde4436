"""What a contract refuses before anything runs."""

from __future__ import annotations

import pytest

from lepton_ai.graph import ops
from lepton_ai.graph.attrs import AttentionAttrs, KVSpec, PoolMode
from lepton_ai.graph.tensor import DType, Weight, symbol
from lepton_ai.graph.trace import Trace, Value


def rows(size: int = 8) -> Value:
    return Trace().input("x", (symbol("T"), size), DType.F32)


@pytest.mark.parametrize(("weight", "bias", "named"), [(7, 8, "w"), (8, 9, "b")])
def test_layer_norm_checks_its_parameters(weight: int, bias: int, named: str) -> None:
    with pytest.raises(AssertionError, match=rf"y: {named} \(\d,\) for rows of 8"):
        ops.layer_norm(rows(), Weight("w", (weight,)), Weight("b", (bias,)), eps=1e-5, name="y")


def test_layer_norm_keeps_the_shape() -> None:
    y = ops.layer_norm(rows(), Weight("w", (8,)), Weight("b", (8,)), eps=1e-5, name="y")
    assert (y.shape, y.tensor.dtype) == ((symbol("T"), 8), DType.F32)


def test_attention_has_a_window_only_if_it_is_causal() -> None:
    x = rows(16)
    made = ops.attention(x, x, x, num_heads=1, kv=KVSpec(1, 16), layer=0, scale=1, name="y", is_causal=False)
    attrs = made.trace.nodes[-1].attrs
    assert isinstance(attrs, AttentionAttrs) and not attrs.is_causal
    with pytest.raises(AssertionError, match="z: a window of 8 without is_causal"):
        ops.attention(x, x, x, num_heads=1, kv=KVSpec(1, 16, window=8), layer=0, scale=1, name="z", is_causal=False)


@pytest.mark.parametrize(("size", "num_groups"), [(8, 2), (4, 3), (3, 2)])
def test_rms_norm_checks_its_groups(size: int, num_groups: int) -> None:
    with pytest.raises(AssertionError, match=rf"y: weight \({size},\) for rows of 8 in {num_groups} groups"):
        ops.rms_norm(rows(), Weight("w", (size,)), eps=1e-5, name="y", num_groups=num_groups)


def test_pool_takes_a_row_for_each_token() -> None:
    pooled = ops.pool(rows(), mode=PoolMode.MEAN, name="y")
    assert pooled.shape == (symbol("S"), 8)
    with pytest.raises(AssertionError, match="z: expected a row for each token"):
        ops.pool(pooled, mode=PoolMode.MEAN, name="z")
