from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.models.tiny import step, tiny_model

from lepton_ai.backends.base import MAX_LOGPROBS, SamplingInputs, StepInputs, StepOutputs
from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.cpu.executable import CpuExecutable
from lepton_ai.config import Limits, Policy
from lepton_ai.engine.request import Request
from lepton_ai.engine.sampling_inputs import SamplingInputsBuilder
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.errors import InvalidRequest

MODEL, STORE = tiny_model()
LIMITS = Limits(max_tokens=16, max_rows=16, max_seqs=4, max_model_len=1024)


@pytest.fixture
def executable() -> CpuExecutable:
    backend = CpuBackend(CpuDevice(num_threads=1))
    return backend.compile(MODEL.build(head="logits"), STORE, LIMITS, policy=Policy.EXACT)


def run(executable: CpuExecutable, inputs: StepInputs) -> StepOutputs:
    cache = CpuBackend(executable._device).allocate_kv(MODEL.kv_specs(), [4])
    return executable.run(inputs, cache).result()


def sampling(*num_logprobs: int) -> SamplingInputs:
    requests = [
        Request.create(np.array([1], np.int32), SamplingParams(logprobs=n), max_tokens=9, eos_ids=frozenset())
        for n in num_logprobs
    ]
    return SamplingInputsBuilder(4).build(requests)


def sampled_step(ids: list[int], *num_logprobs: int) -> StepInputs:
    return replace(step([(0, ids, [0])], logit_rows=range(len(num_logprobs))), sampling=sampling(*num_logprobs))


def test_an_object_that_is_run_again_has_the_same_views_with_new_values(executable: CpuExecutable) -> None:
    inputs = step([(0, [1, 2], [0])])
    first = run(executable, inputs)
    logits = first.tensors["logits"].copy()
    inputs.token_ids[:] = [3, 4]
    assert run(executable, inputs) is first
    changed = first.tensors["logits"].copy()
    assert not np.array_equal(changed, logits)
    assert np.array_equal(run(executable, step([(0, [3, 4], [0])])).tensors["logits"], changed)


def test_values_are_checked_in_every_run_of_an_object(executable: CpuExecutable) -> None:
    inputs = step([(0, [1, 2], [0])])
    run(executable, inputs)
    inputs.token_ids[1] = 50
    with pytest.raises(InvalidRequest, match="token_ids: value 50 at 1"):
        run(executable, inputs)


def test_outputs_follow_the_sizes_of_the_step(executable: CpuExecutable) -> None:
    shapes = [
        run(executable, step([(0, ids, [0])], logit_rows=rows)).tensors["logits"].shape
        for ids, rows in [([1, 2, 3], [2]), ([1, 2, 3], [0, 2]), ([1], [0]), ([1, 2, 3], [2])]
    ]
    assert shapes == [(1, 50), (2, 50), (1, 50), (1, 50)]


def test_alternatives_are_as_many_as_the_row_that_wants_most(executable: CpuExecutable) -> None:
    assert run(executable, step([(0, [1, 2, 3], [0])])).sampled is None
    for counts in [(0,), (3,), (0, 5), (MAX_LOGPROBS, 1), (0,)]:
        sampled = run(executable, sampled_step([1, 2, 3], *counts)).sampled
        assert sampled is not None
        assert sampled.token_ids.shape == sampled.logprobs.shape == (len(counts),)
        assert sampled.top_ids.shape == sampled.top_logprobs.shape == (len(counts), max(counts))
    assert run(executable, step([(0, [1, 2, 3], [0])])).sampled is None


def test_all_attentions_share_the_memory_of_their_splits() -> None:
    def arena_bytes(num_layers: int) -> int:
        graph = tiny_model("llama", {"block_count": num_layers})[0].build(head="logits")
        store = tiny_model("llama", {"block_count": num_layers})[1]
        backend = CpuBackend(CpuDevice(num_threads=1))
        return backend.compile(graph, store, LIMITS, policy=Policy.EXACT).arena_bytes

    assert arena_bytes(2) == arena_bytes(6)
