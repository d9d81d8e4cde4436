"""``token_logprob``: the head's logits are reduced slice by slice; the result is that of a softmax over all of them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from tests.kernels.harness import Case, Floats, assert_within, held, magnitudes, normal, plain_step, tolerated_ulps
from tests.models.tiny import random_tensor, stored

from lepton_ai.backends.base import StepInputs
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.config import Policy
from lepton_ai.graph import ops
from lepton_ai.graph.tensor import DType, Weight, symbol
from lepton_ai.graph.trace import Trace
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.store import StoredTensor

ROWS = 130  # one more than a block of rows, and a half


def scoring(head: StoredTensor, policy: Policy) -> Case:
    """Log-probabilities of targets under one head."""
    trace = Trace()
    x = trace.input("x", (symbol("R"), head.shape[1]), DType.F32)
    targets = trace.input("targets", (symbol("R"),), DType.I32)
    return Case(trace.finish([ops.token_logprob(x, Weight("head", head.shape), targets, name="y")]), (head,), policy)


def step_of(x: Floats, targets: np.ndarray[tuple[int], np.dtype[np.int64]]) -> StepInputs:
    return plain_step({"x": x}, logit_rows=range(len(x)), targets=targets.tolist())


def inputs(vocab_size: int) -> tuple[Floats, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    targets = np.random.default_rng(vocab_size).integers(0, vocab_size, ROWS)
    targets[:3] = 0, vocab_size - 1, vocab_size // 2
    return normal((ROWS, 256), vocab_size) * np.float32(0.05), targets


@cache
def expected(vocab_size: int, weight_type: WeightType, policy: Policy) -> Floats:
    case = scoring(random_tensor("head", (vocab_size, 256), weight_type, seed=1), policy)
    return case.on_reference([step_of(*inputs(vocab_size))])[0]["y"]


@pytest.mark.parametrize(
    ("vocab_size", "weight_type", "policy"),
    [
        (1, WeightType.F32, Policy.EXACT),
        (15, WeightType.Q8_0, Policy.EXACT),
        (1024, WeightType.Q4_1, Policy.AUTO),
        (1025, WeightType.Q6_K, Policy.AUTO),
        (1025, WeightType.F16, Policy.FAST),
        (2100, WeightType.Q8_0, Policy.AUTO),
    ],
)
def test_against_the_reference(device: CpuDevice, vocab_size: int, weight_type: WeightType, policy: Policy) -> None:
    head = random_tensor("head", (vocab_size, 256), weight_type, seed=1)
    case = scoring(head, policy)
    x, targets = inputs(vocab_size)
    whole, some = (out["y"] for out in case.on_cpu(device, [step_of(x, targets), step_of(x[:5], targets[:5])]))
    # An error of the largest logit's terms moves every log-probability.
    sizes = (np.abs(x) @ magnitudes(held(head, policy)).T).max(axis=1)
    ulps = max(8.0, tolerated_ulps(device, num_terms=2))
    assert_within(whole, expected(vocab_size, weight_type, policy), 1 + sizes, ulps)
    assert np.array_equal(some, whole[:5])


def test_logits_of_any_size(device: CpuDevice) -> None:
    head = stored("head", np.linspace(-1, 1, 3000, dtype=np.float32)[:, None])
    x, targets = np.array([[1e4], [-1e4], [1e-9], [0]], np.float32), np.array([2999, 2999, 17, 0])
    case = scoring(head, Policy.EXACT)
    (got,), (want,) = case.on_cpu(device, [step_of(x, targets)]), case.on_reference([step_of(x, targets)])
    np.testing.assert_allclose(got["y"], want["y"], rtol=1e-6, atol=1e-6)


def test_a_row_that_is_not_finite_spares_the_others(device: CpuDevice) -> None:
    case = scoring(random_tensor("head", (100, 64), WeightType.Q8_0, seed=2), Policy.AUTO)
    x, targets = normal((4, 64), 3), np.array([5, 6, 7, 99])
    (clean,) = case.on_cpu(device, [step_of(x, targets)])
    x[1, 5] = np.nan
    (got,) = case.on_cpu(device, [step_of(x, targets)])
    assert np.isnan(got["y"][1])
    assert np.array_equal(np.delete(got["y"], 1), np.delete(clean["y"], 1))
