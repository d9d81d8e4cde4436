"""What is tuned changes no bit: each number at both of its ends, with few rows and many."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from tests.kernels.conftest import ISAS
from tests.kernels.harness import Floats, normal
from tests.kernels.test_invariance import quantised_model
from tests.kernels.test_linear import linear_case, step_of
from tests.models.tiny import random_tensor, step

from lepton_ai.backends.base import StepInputs
from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.cpu.tuning import TUNABLES, Tunable, Tuning
from lepton_ai.config import Limits, Policy
from lepton_ai.graph.passes.precision import kv_specs
from lepton_ai.weights.formats import WeightType

ROWS = (1, 3, 8, 9, 16, 17, 47, 48, 64, 65, 119, 121, 128, 129, 200)
LIMITS = Limits(max_tokens=600, max_rows=600, max_seqs=80, max_model_len=128)
TOKENS = [int(i) for i in np.random.default_rng(3).integers(0, 50, 520)]


def _device(isa: str, num_threads: int, tuning: Tuning | None = None) -> CpuDevice:
    if isa not in _native.available_isas():
        pytest.skip(f"this machine cannot run {isa}")
    return CpuDevice(num_threads=num_threads, isa=isa, tuning=tuning)


def _tuned(isa: str, num_threads: int, tunable: Tunable, value: int) -> CpuDevice:
    _device(isa, 1)
    return _device(isa, num_threads, replace(Tuning.default(isa), **{tunable.name: value}))


def _may_read(isa: str, tunable: Tunable) -> bool:
    """Whether kernels of ``isa`` read the number; of those that this machine lacks, nobody knows."""
    return isa not in _native.available_isas() or tunable.applies_to(isa)


ENDS = [
    (isa, tunable, value)
    for isa in ISAS
    for tunable in TUNABLES
    if _may_read(isa, tunable)
    for value in (tunable.minimum, tunable.maximum)
]
at_both_ends = pytest.mark.parametrize(
    ("isa", "tunable", "value"), ENDS, ids=[f"{isa}-{tunable.name}-{value}" for isa, tunable, value in ENDS]
)


@cache
def _products(isa: str, num_threads: int, tuning: Tuning, weight_type: WeightType, policy: Policy) -> list[Floats]:
    """Products of each number of rows with three matrices, in the order of ROWS."""
    tensors = [random_tensor(f"w{n}", (n, 384), weight_type, seed=n) for n in (16, 200, 1000)]
    x = normal((max(ROWS), 384), 5)
    outputs = linear_case(tensors, policy).on_cpu(_device(isa, num_threads, tuning), [step_of(x[:n]) for n in ROWS])
    return [np.concatenate([each[f"y{i}"] for i in range(len(tensors))], axis=1) for each in outputs]


@at_both_ends
@pytest.mark.parametrize(
    ("weight_type", "policy"),
    [(WeightType.Q4_0, Policy.AUTO), (WeightType.F32, Policy.FAST), (WeightType.F16, Policy.EXACT)],
)
def test_products(isa: str, tunable: Tunable, value: int, weight_type: WeightType, policy: Policy) -> None:
    tuning = _tuned(isa, 1, tunable, value).tuning
    (want,) = [_products(isa, 1, Tuning.default(isa), weight_type, policy)]
    for num_threads in (1, 3):
        got = _products(isa, num_threads, tuning, weight_type, policy)
        assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))


def _model_steps(head: str) -> list[StepInputs]:
    """More rows than the largest block; few; and what is between."""
    sequences = [(0, TOKENS[i * 104 : i * 104 + 104], list(range(i * 8, i * 8 + 8))) for i in range(5)]
    decodes = [(104, [7], list(range(i * 8, i * 8 + 8))) for i in range(5)]
    steps = []
    for chunks in (sequences, decodes, sequences[:1], decodes[:1]):
        count = sum(len(ids) for _, ids, _ in chunks)
        steps.append(step(chunks, targets=[3] * count if head == "logprobs" else None))
    return steps


@cache
def _model_outputs(isa: str, num_threads: int, tuning: Tuning, head: str, policy: Policy) -> list[Floats]:
    model, store = quantised_model("llama")
    backend = CpuBackend(_device(isa, num_threads, tuning))
    graph = model.build(head="logprobs" if head == "logprobs" else "logits")
    executable = backend.compile(graph, store, LIMITS, policy=policy)
    cache_of_keys = backend.allocate_kv(kv_specs(executable.plan.graph), [40])
    results = []
    for inputs in _model_steps(head):
        (values,) = executable.run(inputs, cache_of_keys).result().tensors.values()
        results.append(values.copy())
    return results


@at_both_ends
@pytest.mark.parametrize("head", ["logits", "logprobs"])
def test_a_model(isa: str, tunable: Tunable, value: int, head: str) -> None:
    tuning = _tuned(isa, 1, tunable, value).tuning
    for policy in (Policy.AUTO, Policy.EXACT):
        want = _model_outputs(isa, 1, Tuning.default(isa), head, policy)
        got = _model_outputs(isa, 2, tuning, head, policy)
        assert [len(each) for each in got] == [520, 5, 104, 1]
        assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))


def test_the_same_program_on_another_device() -> None:
    model, store = quantised_model("llama")
    backend = CpuBackend(CpuDevice(num_threads=1))
    executable = backend.compile(model.build(head="logits"), store, LIMITS, policy=Policy.AUTO)
    other = executable.on(CpuDevice(num_threads=2, tuning=replace(Tuning.default(backend.device.isa), row_block=64)))
    keys = backend.allocate_kv(kv_specs(executable.plan.graph), [40])
    inputs = _model_steps("logits")[0]
    want = executable.run(inputs, keys).result().tensors["logits"].copy()
    assert np.array_equal(other.run(inputs, keys).result().tensors["logits"], want)
    assert other.weight_bytes == executable.weight_bytes
