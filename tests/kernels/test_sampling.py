"""The native sampler against ``backends/reference/sampling.py``."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pytest
from tests.kernels.harness import Case, Floats, plain_step

from lepton_ai.backends.base import MAX_LOGPROBS, SampledTokens, SamplingInputs
from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.reference.philox import uniform
from lepton_ai.backends.reference.sampling import candidates, choose, penalise, sample
from lepton_ai.config import Limits, Policy
from lepton_ai.graph import ops
from lepton_ai.graph.tensor import DType, symbol
from lepton_ai.graph.trace import Trace

INF = float("inf")

ScalarT = TypeVar("ScalarT", np.float32, np.int32)


def settings(num_rows: int, **changes: float) -> SamplingInputs:
    """Every row alike: temperature 1, nothing cut, nothing penalised, draws 0, 1, 2, ..."""
    values: dict[str, npt.NDArray[np.generic]] = {
        "temperature": np.ones(num_rows, np.float32),
        "top_k": np.zeros(num_rows, np.int32),
        "top_p": np.ones(num_rows, np.float32),
        "min_p": np.zeros(num_rows, np.float32),
        "repetition_penalty": np.ones(num_rows, np.float32),
        "presence_penalty": np.zeros(num_rows, np.float32),
        "frequency_penalty": np.zeros(num_rows, np.float32),
        "seeds": np.zeros(num_rows, np.uint64),
        "draws": np.arange(num_rows, dtype=np.uint64),
        "num_logprobs": np.zeros(num_rows, np.int32),
        "history": np.zeros(0, np.int32),
        "history_offsets": np.zeros(num_rows + 1, np.int32),
        "num_prompt_tokens": np.zeros(num_rows, np.int32),
        "bias_ids": np.zeros(0, np.int32),
        "bias_values": np.zeros(0, np.float32),
        "bias_offsets": np.zeros(num_rows + 1, np.int32),
        "mask_rows": np.full(num_rows, -1, np.int32),
        "token_masks": np.zeros((0, 0), np.int32),
        "forced_ids": np.full(num_rows, -1, np.int32),
    }
    for name, value in changes.items():
        values[name] = np.full_like(values[name], value)
    return SamplingInputs(**values)  # type: ignore[arg-type]


def native(device: CpuDevice, logits: Floats, inputs: SamplingInputs) -> SampledTokens:
    """What the device chooses from ``logits`` ``[R, V]``."""
    num_rows, vocab_size = logits.shape
    trace = Trace()
    x = trace.input("x", (symbol("R"), vocab_size), DType.F32)
    rows = trace.input("logit_rows", (symbol("R"),), DType.I32)
    limits = Limits(max_tokens=num_rows, max_rows=num_rows, max_seqs=1, max_model_len=num_rows)
    case = Case(trace.finish([ops.gather_rows(x, rows, name="logits")]), limits=limits)
    backend = CpuBackend(device)
    executable = backend.compile(case.graph, case.store(), limits, policy=Policy.EXACT)
    step = plain_step({"x": logits}, logit_rows=range(num_rows), sampling=inputs)
    outputs = executable.run(step, backend.allocate_kv([], [])).result()
    assert outputs.sampled is not None
    return SampledTokens(*(getattr(outputs.sampled, f.name).copy() for f in fields(SampledTokens)))


def row(*values: float) -> Floats:
    return np.array([values], np.float32)


def random_settings(num_rows: int, vocab_size: int, rng: np.random.Generator) -> SamplingInputs:
    """Mixed settings: each feature in about half of the rows."""

    def some(values: npt.NDArray[ScalarT], off: float) -> npt.NDArray[ScalarT]:
        values[rng.random(num_rows) < 0.5] = off
        return values

    lengths = rng.integers(0, 30, num_rows)
    return replace(
        settings(num_rows),
        temperature=some(rng.uniform(0.1, 2, num_rows).astype(np.float32), 0.8),
        top_k=some(rng.integers(1, 2 * vocab_size, num_rows).astype(np.int32), 0),
        top_p=some(rng.uniform(0, 1, num_rows).astype(np.float32), 1),
        min_p=some((rng.uniform(0, 1, num_rows) ** 4).astype(np.float32), 0),
        repetition_penalty=some(rng.uniform(0.5, 2, num_rows).astype(np.float32), 1),
        presence_penalty=some(rng.uniform(-1, 1, num_rows).astype(np.float32), 0),
        frequency_penalty=some(rng.uniform(-1, 1, num_rows).astype(np.float32), 0),
        seeds=rng.integers(0, 2**64, num_rows, np.uint64),
        draws=rng.integers(0, 2**40, num_rows, np.uint64),
        num_logprobs=rng.integers(0, MAX_LOGPROBS + 1, num_rows).astype(np.int32),
        history=rng.integers(0, vocab_size, lengths.sum()).astype(np.int32),
        history_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        num_prompt_tokens=rng.integers(0, lengths + 1).astype(np.int32),
        bias_ids=rng.integers(0, vocab_size, 2 * num_rows).astype(np.int32),
        bias_values=rng.uniform(-3, 3, 2 * num_rows).astype(np.float32),
        bias_offsets=np.arange(0, 2 * num_rows + 1, 2, dtype=np.int32) // 8 * 8,  # eight in each fourth row
        mask_rows=some(rng.integers(0, 5, num_rows).astype(np.int32), -1),
        token_masks=some_masks(5, vocab_size, rng),
    )


def some_masks(count: int, vocab_size: int, rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """Masks that leave about half of the tokens; of some, whole words are full or empty."""
    bits = rng.random((count, -(-vocab_size // 32), 32)) < 0.5
    bits[rng.random(bits.shape[:2]) < 0.2] = False
    bits[rng.random(bits.shape[:2]) < 0.2] = True
    bits[:, 0, 3] = True
    return np.packbits(bits.reshape(count, -1), axis=1, bitorder="little").view(np.int32)


@cache
def batch(num_rows: int, vocab_size: int) -> tuple[Floats, SamplingInputs, SampledTokens]:
    """Rows, their settings and what the oracle makes of them; one row in eight is greedy, one has a forced token."""
    rng = np.random.default_rng(vocab_size)
    logits = (rng.standard_normal((num_rows, vocab_size)) * rng.uniform(0.1, 6, (num_rows, 1))).astype(np.float32)
    inputs = random_settings(num_rows, vocab_size, rng)
    inputs.temperature[::8] = 0
    inputs.forced_ids[3::8] = rng.integers(0, vocab_size, len(inputs.forced_ids[3::8]))
    return logits, inputs, sample(logits, inputs)


def is_near_a_boundary(logits: Floats, inputs: SamplingInputs, index: int, chosen: int) -> bool:
    """Whether f32 weights may put ``chosen`` where the oracle's f64 weights put another token."""
    penalised = penalise(logits, inputs, index)
    uncut = replace(inputs, top_p=np.ones_like(inputs.top_p), min_p=np.zeros_like(inputs.min_p))
    everything = candidates(penalised, uncut, index)
    weights = np.diff(everything.cumulative, prepend=0)
    if inputs.min_p[index] > 0 and np.isclose(weights, inputs.min_p[index], rtol=1e-5).any():
        return True
    top_p = inputs.top_p[index]
    if top_p < 1 and np.isclose(everything.cumulative / everything.cumulative[-1], top_p, atol=1e-5).any():
        return True
    kept = candidates(penalised, inputs, index)
    number = uniform(int(inputs.seeds[index]), int(inputs.draws[index]))
    if np.isclose(kept.cumulative / kept.cumulative[-1], number, rtol=0, atol=1e-5).any():
        return True
    return bool(np.isclose(penalised[chosen], penalised[choose(logits, inputs, index)], rtol=1e-6, atol=1e-6))


@pytest.mark.parametrize(("num_rows", "vocab_size"), [(1000, 17), (1600, 300), (400, 3001)])
def test_random_rows_of_mixed_settings(device: CpuDevice, num_rows: int, vocab_size: int) -> None:
    logits, inputs, want = batch(num_rows, vocab_size)
    got = native(device, logits, inputs)
    differ = np.flatnonzero(got.token_ids != want.token_ids)
    assert len(differ) <= 0.01 * num_rows
    assert got.token_ids[3::8].tolist() == inputs.forced_ids[3::8].tolist()
    for index in differ.tolist():
        assert inputs.temperature[index] > 0
        assert is_near_a_boundary(logits[index], inputs, index, int(got.token_ids[index])), f"row {index}"
    same = got.token_ids == want.token_ids
    np.testing.assert_allclose(got.logprobs[same], want.logprobs[same], rtol=1e-6, atol=2e-6)
    for index in range(num_rows):
        count = min(int(inputs.num_logprobs[index]), vocab_size)
        assert got.top_ids[index, :count].tolist() == want.top_ids[index, :count].tolist()
        top, oracle = (out.top_logprobs[index, :count] for out in (got, want))
        np.testing.assert_allclose(top, oracle, rtol=1e-6, atol=2e-6)


def test_a_forced_token_is_scored_whatever_the_settings(single: CpuDevice) -> None:
    logits, inputs, _ = batch(400, 3001)
    forced = np.random.default_rng(1).integers(0, 3001, 400).astype(np.int32)
    inputs = replace(inputs, forced_ids=forced)
    plain = replace(settings(400), forced_ids=forced, num_logprobs=inputs.num_logprobs)
    got, same, want = native(single, logits, inputs), native(single, logits, plain), sample(logits, inputs)
    for field in fields(SampledTokens):
        assert np.array_equal(getattr(got, field.name), getattr(same, field.name))
    assert got.token_ids.tolist() == forced.tolist()
    np.testing.assert_allclose(got.logprobs, want.logprobs, rtol=1e-6, atol=2e-6)
    chosen = native(single, logits, replace(inputs, forced_ids=np.full_like(forced, -1)))
    again = native(single, logits, replace(inputs, forced_ids=chosen.token_ids))
    assert np.array_equal(again.logprobs, chosen.logprobs), "the bits of a token that is chosen"


def test_a_forced_token_without_a_logit(single: CpuDevice) -> None:
    logits, inputs = row(1, np.nan, -INF, 0), replace(settings(2), forced_ids=np.array([1, 2], np.int32))
    many = np.repeat(logits, 2, axis=0)
    assert native(single, many, inputs).logprobs.tolist() == sample(many, inputs).logprobs.tolist() == [-INF, -INF]


def test_rows_alone_choose_as_among_others(device: CpuDevice) -> None:
    logits, inputs, _ = batch(1000, 17)
    together = native(device, logits, inputs)
    for index in range(0, 1000, 37):
        begin, end = inputs.history_offsets[index : index + 2]
        first, last = inputs.bias_offsets[index : index + 2]
        picked = {
            f.name: getattr(inputs, f.name)[index : index + 1]
            for f in fields(SamplingInputs)
            if not f.name.startswith(("history", "bias", "token_masks"))
        }
        alone = SamplingInputs(
            **picked,
            history=inputs.history[begin:end],
            history_offsets=np.array([0, end - begin], np.int32),
            bias_ids=inputs.bias_ids[first:last],
            bias_values=inputs.bias_values[first:last],
            bias_offsets=np.array([0, last - first], np.int32),
            token_masks=inputs.token_masks,
        )
        got = native(device, logits[index : index + 1], alone)
        assert (got.token_ids[0], got.logprobs[0]) == (together.token_ids[index], together.logprobs[index])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_only_unmasked_tokens_are_chosen(single: CpuDevice, temperature: float) -> None:
    logits = np.zeros((60, 70), np.float32)
    logits[:, 5] = 50
    mask = np.zeros((2, 3), np.int32)
    mask[0, 2] = 1 << 5  # token 69, the last but none
    mask[1, 0] = -1 << 30  # 30 and 31
    inputs = replace(
        settings(60, temperature=temperature), token_masks=mask, mask_rows=np.arange(60, dtype=np.int32) % 3 - 1
    )
    got = native(single, logits, inputs)
    assert set(got.token_ids[::3].tolist()) == {5}
    assert set(got.token_ids[1::3].tolist()) == {69}
    assert set(got.token_ids[2::3].tolist()) == ({30} if temperature == 0 else {30, 31})
    np.testing.assert_allclose(got.logprobs[1::3], -50, atol=1e-3)  # of the distribution as the model has it


def test_biases_of_one_token_add_up(single: CpuDevice) -> None:
    logits = np.zeros((2, 9), np.float32)
    inputs = replace(
        settings(2, temperature=0),
        bias_ids=np.array([7, 2, 7, 1], np.int32),
        bias_values=np.array([1, 1.5, 1, -INF], np.float32),
        bias_offsets=np.array([0, 3, 4], np.int32),
    )
    assert native(single, logits, inputs).token_ids.tolist() == [7, 0]
    assert sample(logits, inputs).token_ids.tolist() == [7, 0]


def test_ties_go_to_the_lowest_id(single: CpuDevice) -> None:
    logits = np.zeros((1, 40), np.float32)
    logits[0, [7, 9, 33]] = 5
    assert native(single, logits, settings(1, temperature=0)).token_ids.tolist() == [7]
    many = np.repeat(logits, 200, axis=0)
    assert set(native(single, many, settings(200, top_k=2)).token_ids.tolist()) == {7, 9}
    assert native(single, logits, settings(1, num_logprobs=5)).top_ids.tolist() == [[7, 9, 33, 0, 1]]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "logits",
    [
        row(np.nan, np.nan, np.nan, np.nan, np.nan),
        row(-INF, -INF, -INF, -INF, -INF),
        row(np.nan, -INF, np.nan, -INF, np.nan),
        row(np.nan, 1, 3, np.nan, 2),
        row(0, INF, 1, 2, 3),
        row(0, INF, np.nan, INF, 3),
        row(-INF, 2, -INF, -INF, -INF),
        row(3e38, -3e38, 1, 3e38, 0),
    ],
    ids=str,
)
def test_rows_that_are_not_finite(single: CpuDevice, logits: Floats, temperature: float) -> None:
    many, inputs = np.repeat(logits, 50, axis=0), settings(50, temperature=temperature)
    with np.errstate(all="ignore"):
        want = sample(many, inputs)
    assert native(single, many, inputs).token_ids.tolist() == want.token_ids.tolist()


def test_alternatives_of_a_masked_row(single: CpuDevice) -> None:
    logits = row(-INF, 2, np.nan, -INF, 1, -INF)
    inputs = settings(1, num_logprobs=10)
    got, want = native(single, logits, inputs), sample(logits, inputs)
    assert got.top_ids[:, :6].tolist() == want.top_ids.tolist()
    np.testing.assert_allclose(got.top_logprobs[:, :6], want.top_logprobs, rtol=1e-6)


def test_seeds_and_draws_fix_the_choice(single: CpuDevice) -> None:
    logits = np.zeros((100, 1000), np.float32)
    first, again, other = (native(single, logits, settings(100, seeds=seed)).token_ids for seed in (1, 1, 2**63 + 1))
    assert np.array_equal(first, again)
    assert (first != other).mean() > 0.9
    assert len(set(first.tolist())) > 80


def test_penalties_move_the_choice(single: CpuDevice) -> None:
    inputs = replace(
        settings(3, temperature=0),
        repetition_penalty=np.array([2, 1, 1], np.float32),
        presence_penalty=np.array([0, 1.5, 0], np.float32),
        frequency_penalty=np.array([0, 0, 0.5], np.float32),
        history=np.array([2, 2, 0, 2, 0, 0, 2, 2, 2], np.int32),
        history_offsets=np.array([0, 1, 3, 9], np.int32),
        num_prompt_tokens=np.array([1, 0, 1], np.int32),
    )
    logits = np.repeat(row(1.5, 1.2, 2.25), 3, axis=0)
    got = native(single, logits, inputs)
    assert got.token_ids.tolist() == [0, 1, 1] == sample(logits, inputs).token_ids.tolist()
