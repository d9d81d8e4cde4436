from __future__ import annotations

import numpy as np
import pytest
from tests.engine.fakes import FakeCache, FakeExecutable, config, expected_tokens

from lepton_ai.engine.engine import Engine, check_token_ids
from lepton_ai.engine.request import FinishReason, Request
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.errors import ContextLengthExceeded, InvalidRequest, OutOfMemory

GREEDY = SamplingParams(temperature=0.0, max_tokens=12)


def make(
    *,
    num_blocks: int | tuple[int, ...] = 64,
    max_tokens: int = 64,
    max_seqs: int = 8,
    windows: tuple[int | None, ...] = (None,),
) -> tuple[Engine, FakeExecutable]:
    made = config(max_tokens=max_tokens, max_seqs=max_seqs, kv_windows=windows)
    executable = FakeExecutable(made.limits, windows)
    counts = (num_blocks,) * len(windows) if isinstance(num_blocks, int) else num_blocks
    return Engine(executable, FakeCache(*counts), made), executable


def run(engine: Engine, prompts: list[list[int]], params: SamplingParams = GREEDY) -> list[list[int]]:
    requests = [engine.make_request(p, params) for p in prompts]
    for request in requests:
        engine.add(request)
    while engine.scheduler.has_work:
        engine.step()
    engine.scheduler.check_integrity()
    return [output(r) for r in requests]


def output(request: Request) -> list[int]:
    return [int(i) for i in request.tokens[request.num_prompt_tokens : request.num_tokens]]


PROMPTS = [
    [n % 90 + 1 for n in range(start, start + length)] for start, length in [(0, 100), (3, 1), (0, 33), (40, 64)]
]


@pytest.mark.parametrize("max_tokens", [1, 7, 64])
@pytest.mark.parametrize("num_blocks", [8, 64])
@pytest.mark.parametrize("windows", [(None,), (None, None), (20,), (None, 7), (33, None, 16)], ids=str)
def test_answers_do_not_depend_on_chunks_neighbours_or_memory(
    max_tokens: int, num_blocks: int, windows: tuple[int | None, ...]
) -> None:
    engine, executable = make(max_tokens=max_tokens, num_blocks=num_blocks, windows=windows)
    assert run(engine, PROMPTS) == [expected_tokens(p, 12, window=executable.window) for p in PROMPTS]
    assert max(executable.steps) <= max_tokens


def test_a_cached_prefix_changes_no_answer() -> None:
    engine, executable = make()
    prompt = PROMPTS[0][:40]
    (first,) = run(engine, [prompt])
    executable.steps.clear()
    longer = [*prompt, *first, 5, 6]
    assert run(engine, [longer]) == [expected_tokens(longer, 12)]
    # 40 + 11 computed tokens are three full blocks.
    assert executable.steps[0] == len(longer) - 48


def test_seed_fixes_the_answer_and_none_draws_one() -> None:
    engine, _ = make()
    params = SamplingParams(seed=11, max_tokens=12)
    (alone,) = run(engine, [[1, 2, 3]], params)
    assert alone == expected_tokens([1, 2, 3], 12, seed=11)
    assert run(engine, [[9], [1, 2, 3]], params)[1] == alone
    fresh = SamplingParams(max_tokens=12)
    assert run(engine, [[1, 2, 3]], fresh) != run(engine, [[1, 2, 3]], fresh)


def test_without_max_tokens_the_context_is_the_end() -> None:
    engine, _ = make()
    (tokens,) = run(engine, [[1] * 250], SamplingParams(temperature=0.0))
    assert len(tokens) == 6
    engine, _ = make(num_blocks=4)
    (tokens,) = run(engine, [[1] * 50], SamplingParams(temperature=0.0))
    assert len(tokens) == 15, "64 places, and the last token needs none"


def test_what_is_refused() -> None:
    engine, _ = make(num_blocks=4)
    with pytest.raises(ContextLengthExceeded, match="256 tokens leave no room in the context of 256") as caught:
        engine.make_request([1] * 256, SamplingParams())
    assert caught.value.param == "prompt"
    with pytest.raises(ContextLengthExceeded, match="250 prompt tokens and 7 to generate"):
        engine.make_request([1] * 250, SamplingParams(max_tokens=7))
    with pytest.raises(OutOfMemory, match="max_tokens: 66 tokens"):
        engine.make_request([1] * 50, SamplingParams(max_tokens=16))
    with pytest.raises(OutOfMemory):
        engine.make_request([1] * 70, SamplingParams())
    with pytest.raises(ContextLengthExceeded):
        engine.make_request([1], SamplingParams(max_tokens=2**31 - 1))
    assert not engine.scheduler.has_work


@pytest.mark.parametrize("ids", [[], [128], [-1], [1.5], [True], ["a"], [[1], [2, 3]], [[1]], [2**70], None])
def test_bad_token_ids(ids: list[int]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_token_ids(ids, vocab_size=128, name="prompt")
    assert caught.value.param == "prompt" and caught.value.code == "invalid_request"


def test_good_token_ids() -> None:
    checked = check_token_ids(np.array([0, 127], np.uint64), vocab_size=128, name="prompt")
    assert checked.dtype == np.int32 and checked.tolist() == [0, 127]


def test_end_token_ends() -> None:
    engine, executable = make()
    executable.script[5] = 0
    request = engine.make_request([1, 2, 3], GREEDY)
    engine.add(request)
    outputs = [o for _ in range(3) for o in engine.step()]
    assert outputs[-1].finish_reason is FinishReason.STOP and outputs[-1].token_id == 0
    assert engine.step() == []


def test_reset_forgets_everything() -> None:
    engine, executable = make()
    run(engine, [PROMPTS[0]])
    engine.add(engine.make_request(PROMPTS[0], GREEDY))
    engine.step()
    engine.reset()
    assert not engine.scheduler.has_work
    executable.steps.clear()
    assert run(engine, [PROMPTS[0]]) == [expected_tokens(PROMPTS[0], 12)]
    assert executable.steps[0] == 64, "the cache is empty"
