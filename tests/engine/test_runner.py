from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from tests.engine.fakes import ByteDecoder, FakeCache, FakeHandle, config, no_constraints

from lepton_ai.backends.base import SampledTokens, StepInputs, StepOutputs
from lepton_ai.config import Limits
from lepton_ai.engine.engine import Engine
from lepton_ai.engine.local_client import LocalClient
from lepton_ai.engine.plan import ScheduledSequence, StepPlan
from lepton_ai.engine.request import Request
from lepton_ai.engine.runner import BlockTableArray, Runner
from lepton_ai.engine.sampling_inputs import SamplingInputsBuilder
from lepton_ai.engine.sampling_params import SamplingParams

LIMITS = Limits(max_tokens=16, max_rows=4, max_seqs=4, max_model_len=64)


class Recorder:
    """Keeps a copy of the inputs of the last step, and answers at once."""

    def __init__(self) -> None:
        self.inputs: StepInputs | None = None
        self.sampled: SampledTokens | None = None

    def run(self, inputs: StepInputs, cache: object) -> FakeHandle:
        self.inputs = inputs
        rows = len(inputs.logit_rows)
        if self.sampled is None or len(self.sampled.token_ids) != rows:
            ids, logprobs = np.full(rows, 65, np.int32), np.zeros(rows, np.float32)
            self.sampled = SampledTokens(ids, logprobs, np.zeros((rows, 0), np.int32), np.zeros((rows, 0), np.float32))
        return FakeHandle(StepOutputs({}, self.sampled if rows else None))

    def set_weight(self, name: str, values: object) -> None:
        raise AssertionError("not used")


def request(num_tokens: int, computed: int, tables: tuple[list[int], ...], **params: object) -> Request:
    made = Request.create(
        np.arange(10, 10 + num_tokens, dtype=np.int32),
        SamplingParams(seed=5, **params),  # type: ignore[arg-type]
        max_tokens=num_tokens + 8,
    )
    made.num_computed_tokens, made.block_tables = computed, tables
    return made


def test_a_ragged_step() -> None:
    executable = Recorder()
    runner = Runner(executable, FakeCache(8, 8), LIMITS, num_kv_groups=2)
    decoding = request(20, 19, ([3, 1], [0, 2]))
    chunk = request(30, 4, ([2], [5]))
    runner.execute(StepPlan((ScheduledSequence(decoding, 1, True), ScheduledSequence(chunk, 3, False))))
    inputs = executable.inputs
    assert inputs is not None and inputs.sampling is not None
    assert inputs.token_ids.tolist() == [29, 14, 15, 16]
    assert inputs.positions.tolist() == [19, 4, 5, 6]
    assert inputs.query_offsets.tolist() == [0, 1, 4]
    assert inputs.kv_lengths.tolist() == [20, 7]
    assert [g.block_tables[:, :2].tolist() for g in inputs.kv_groups] == [[[3, 1], [2, 0]], [[0, 2], [5, 0]]]
    assert inputs.logit_rows.tolist() == [0]
    assert inputs.sampling.draws.tolist() == [20] and inputs.sampling.seeds.tolist() == [5]
    for array in (inputs.token_ids, inputs.positions, inputs.kv_lengths, inputs.logit_rows):
        assert array.dtype == np.int32 and array.flags.c_contiguous


def test_a_step_without_rows_samples_nothing() -> None:
    executable = Recorder()
    runner = Runner(executable, FakeCache(8), LIMITS, num_kv_groups=1)
    assert runner.execute(StepPlan((ScheduledSequence(request(30, 0, ([2],)), 3, False),))) is None
    assert executable.inputs is not None and executable.inputs.sampling is None


def test_steps_that_decode_the_same_requests_run_the_same_object() -> None:
    executable = Recorder()
    runner = Runner(executable, FakeCache(8), LIMITS, num_kv_groups=1)
    first, second = request(20, 19, ([3, 1],)), request(9, 8, ([2],))
    plan = StepPlan((ScheduledSequence(first, 1, True), ScheduledSequence(second, 1, True)))

    def decode() -> StepInputs:
        runner.execute(plan)
        inputs = executable.inputs
        assert inputs is not None and inputs.sampling is not None
        assert inputs.token_ids.tolist() == [r.tokens[r.num_computed_tokens] for r in (first, second)]
        assert inputs.positions.tolist() == [r.num_computed_tokens for r in (first, second)]
        assert inputs.kv_lengths.tolist() == [r.num_computed_tokens + 1 for r in (first, second)]
        assert inputs.query_offsets.tolist() == [0, 1, 2] and inputs.logit_rows.tolist() == [0, 1]
        assert inputs.sampling.draws.tolist() == [r.num_tokens for r in (first, second)]
        for each in (first, second):
            each.append(77)
            each.num_computed_tokens += 1
        return inputs

    inputs = decode()
    assert decode() is inputs
    runner.execute(StepPlan((ScheduledSequence(request(30, 4, ([2],)), 3, False),)))
    assert decode() is not inputs


def test_rows_that_are_scored_stand_after_those_that_are_sampled() -> None:
    executable = Recorder()
    runner = Runner(executable, FakeCache(8), replace(LIMITS, max_rows=8), num_kv_groups=1)
    scored = request(30, 4, ([2],), prompt_logprobs=3)
    decoding = request(9, 8, ([3],), logprobs=1, repetition_penalty=1.5, logit_bias={5: 1.0})
    ending = request(6, 4, ([1],), prompt_logprobs=0)
    runner.execute(
        StepPlan(
            (
                ScheduledSequence(scored, 5, False, range(6, 9)),
                ScheduledSequence(decoding, 1, True),
                ScheduledSequence(ending, 2, True, range(4, 5)),
            )
        )
    )
    inputs = executable.inputs
    assert inputs is not None and inputs.sampling is not None
    assert inputs.token_ids.tolist() == [14, 15, 16, 17, 18, 18, 14, 15]
    assert inputs.logit_rows.tolist() == [5, 7, 2, 3, 4, 6]
    assert inputs.sampling.forced_ids.tolist() == [-1, -1, 17, 18, 19, 15]
    assert inputs.sampling.num_logprobs.tolist() == [1, 0, 3, 3, 3, 0]
    assert inputs.sampling.history_offsets.tolist() == [0, 9, 9, 9, 9, 9, 9]
    assert inputs.sampling.bias_offsets.tolist() == [0, 1, 1, 1, 1, 1, 1]
    assert inputs.sampling.mask_rows.tolist() == [-1] * 6


def test_a_row_that_was_scored_is_written_anew() -> None:
    builder = SamplingInputsBuilder(4)
    first, second, scored = request(3, 2, (), logprobs=1), request(3, 2, (), logprobs=2), request(9, 0, ())
    steady = builder.build([first, second])
    assert builder.build([first, second]) is steady
    assert builder.build([first], [(scored, range(3))]).forced_ids.tolist() == [-1, 11, 12, 13]
    again = builder.build([first, second])
    assert again is not steady
    assert again.forced_ids.tolist() == [-1, -1] and again.num_logprobs.tolist() == [1, 2]


def table_rows(array: BlockTableArray, tables: list[list[int]]) -> list[list[int]]:
    array.write(tables)
    rows: list[list[int]] = array.rows(len(tables))[:, :2].tolist()
    return rows


def test_table_rows_follow_their_lists() -> None:
    array = BlockTableArray(2, 4)
    first, second = [7], [5, 6]
    assert table_rows(array, [first, second]) == [[7, 0], [5, 6]]
    first.append(3)
    assert table_rows(array, [first, second]) == [[7, 3], [5, 6]]
    assert table_rows(array, [second]) == [[5, 6]]
    assert table_rows(array, [[5, 9], first]) == [[5, 9], [7, 3]]


def test_sampling_rows_follow_their_requests() -> None:
    builder = SamplingInputsBuilder(2)
    plain = request(3, 0, (), temperature=0.5, top_p=0.9, min_p=0.1)
    penalised = request(4, 0, (), repetition_penalty=1.5, presence_penalty=0.5, frequency_penalty=-0.5)
    penalised.append(99)
    both = builder.build([plain, penalised])
    assert both.temperature.tolist() == [0.5, 1.0]
    assert both.top_p.tolist() == pytest.approx([0.9, 1.0]) and both.min_p.tolist() == pytest.approx([0.1, 0.0])
    assert both.repetition_penalty.tolist() == [1.0, 1.5]
    assert both.presence_penalty.tolist() == [0.0, 0.5] and both.frequency_penalty.tolist() == [0.0, -0.5]
    assert both.history.tolist() == [10, 11, 12, 13, 99]
    assert both.history_offsets.tolist() == [0, 0, 5] and both.num_prompt_tokens.tolist() == [0, 4]
    swapped = builder.build([penalised, plain])
    assert swapped.temperature.tolist() == [1.0, 0.5] and swapped.history_offsets.tolist() == [0, 5, 5]
    assert builder.build([plain]).history.tolist() == []


def test_biases_change_once_a_request_has_its_least_tokens() -> None:
    builder = SamplingInputsBuilder(2)
    biased = request(3, 0, (), logit_bias={5: 1.5}, stop_token_ids=[9], min_tokens=2)
    plain = request(2, 0, ())

    def build() -> tuple[list[int], list[float], list[int]]:
        inputs = builder.build([plain, biased])
        return inputs.bias_ids.tolist(), inputs.bias_values.tolist(), inputs.bias_offsets.tolist()

    assert build() == ([5, 9], [1.5, -np.inf], [0, 0, 2])
    biased.append(20)
    assert build() == ([5, 9], [1.5, -np.inf], [0, 0, 2])
    biased.append(20)
    assert build() == ([5], [1.5], [0, 0, 1])
    assert builder.build([plain]).bias_offsets.tolist() == [0, 0]


def test_a_long_history_grows_the_buffer() -> None:
    builder = SamplingInputsBuilder(1)
    inputs = builder.build([request(1000, 0, (), repetition_penalty=2.0)])
    assert inputs.history.tolist() == list(range(10, 1010))


@pytest.mark.parametrize(("rows", "limit_s"), [(1, 150e-6), (16, 600e-6)])
def test_python_of_a_decode_step_is_small(rows: int, limit_s: float) -> None:
    """All of it: schedule, inputs, update, text. The limits are 5 % of a step of a small model; thrice is tolerated
    here, since a test machine may be busy."""
    engine_config = config(max_tokens=512, max_seqs=rows, max_model_len=2048)
    engine = Engine(Recorder(), FakeCache(2048), engine_config)
    client = LocalClient(engine, lambda params: ByteDecoder(), no_constraints)
    generations = [client.submit([n + 1] * 100, SamplingParams(temperature=0.7, max_tokens=1500)) for n in range(rows)]
    for generation in generations:
        client.next_chunk(generation)
    times = []
    for _ in range(300):
        start = time.perf_counter()
        for generation in generations:
            client.next_chunk(generation)
        times.append(time.perf_counter() - start)
    median = sorted(times)[len(times) // 2]
    print(f"{rows} rows: {median * 1e6:.0f} us")
    assert median < 3 * limit_s
