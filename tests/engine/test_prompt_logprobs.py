"""Log-probabilities of prompts: on a fake model, whose values are integers, and on a tiny one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.engine.fakes import (
    ByteDecoder,
    FakeCache,
    FakeExecutable,
    config,
    expected_prompt_logprobs,
    expected_tokens,
    no_constraints,
)
from tests.engine.tiny_gguf import CONTEXT_LENGTH, tiny_gguf

from lepton_ai import LLM, SamplingParams
from lepton_ai.engine.engine import Engine
from lepton_ai.engine.local_client import LocalClient
from lepton_ai.engine.outputs import TokenLogprob
from lepton_ai.engine.plan import StepPlan, TokenOutput
from lepton_ai.engine.request import FinishReason, Request
from lepton_ai.errors import ContextLengthExceeded, OutOfMemory

SCORED = SamplingParams(temperature=0.0, max_tokens=4, prompt_logprobs=2)
PLAIN = SamplingParams(temperature=0.0, max_tokens=12)
ONLY = replace(SCORED, max_tokens=0)
LONG = [n % 90 + 1 for n in range(100)]


class Watched(Engine):
    """An engine that keeps its plans. Its model checks the number of rows of a step."""

    def __init__(self, *, max_tokens: int = 64, max_rows: int = 20, max_seqs: int = 4, num_blocks: int = 64) -> None:
        made = config(max_tokens=max_tokens, max_rows=max_rows, max_seqs=max_seqs)
        super().__init__(FakeExecutable(made.limits), FakeCache(num_blocks), made)
        self.plans: list[StepPlan] = []
        self.outputs: list[TokenOutput] = []

    def step(self) -> list[TokenOutput]:
        plan = self.scheduler.schedule()
        self.plans.append(plan)
        outputs = self.scheduler.update(plan, self._runner.execute(plan))
        self.outputs += outputs
        self.scheduler.check_integrity()
        return outputs

    def start(self, *prompts: list[int], params: SamplingParams = SCORED) -> list[Request]:
        made = [self.make_request(prompt, params) for prompt in prompts]
        for request in made:
            self.add(request)
        return made

    def run(self) -> None:
        while self.scheduler.has_work:
            self.step()

    def shapes(self) -> list[list[tuple[int, int, int, bool]]]:
        """Arrival, tokens, scored tokens and whether one is sampled, of each sequence of each step."""
        return [
            [(s.request.arrival, s.num_tokens, len(s.scored), s.is_sampled) for s in p.sequences] for p in self.plans
        ]


def output(request: Request) -> list[int]:
    tokens: list[int] = request.tokens[request.num_prompt_tokens : request.num_tokens].tolist()
    return tokens


def assert_scored(request: Request, prompt: list[int]) -> None:
    assert request.prompt_logprobs is not None and request.num_unscored_tokens == 0
    assert [(e.token_id, e.logprob) for e in request.prompt_logprobs] == expected_prompt_logprobs(prompt)
    count = request.params.prompt_logprobs
    assert count is not None and all(len(e.top) == count for e in request.prompt_logprobs)


@pytest.mark.parametrize(("max_tokens", "max_rows"), [(64, 4), (64, 20), (7, 20), (1, 4), (512, 512)])
@pytest.mark.parametrize("num_blocks", [8, 64])
def test_each_token_of_each_prompt_is_scored(max_tokens: int, max_rows: int, num_blocks: int) -> None:
    engine = Watched(max_tokens=max_tokens, max_rows=max_rows, num_blocks=num_blocks)
    prompts = [LONG, LONG[40:73], [5], LONG[:40]]
    scored = engine.start(*prompts)
    (plain,) = engine.start(LONG[20:60], params=PLAIN)
    engine.run()
    for request, prompt in zip(scored, prompts, strict=True):
        assert_scored(request, prompt)
        assert output(request) == expected_tokens(prompt, 4)
    assert output(plain) == expected_tokens(LONG[20:60], 12) and plain.prompt_logprobs is None
    rows = [sum(len(s.scored) + s.is_sampled for s in p.sequences) for p in engine.plans]
    assert max(rows) <= max_rows
    assert all(p.sequences for p in engine.plans)


def test_rows_bound_a_step_and_who_decodes_has_one() -> None:
    engine = Watched(max_rows=20)
    engine.start([1, 2], params=PLAIN)
    engine.step()
    engine.start(LONG[:50])
    engine.run()
    assert engine.shapes()[:5] == [
        [(0, 2, 0, True)],
        [(0, 1, 0, True), (1, 19, 19, False)],
        [(0, 1, 0, True), (1, 19, 19, False)],
        [(0, 1, 0, True), (1, 12, 11, True)],
        [(0, 1, 0, True), (1, 1, 0, True)],
    ]


def test_rows_are_divided_like_tokens() -> None:
    engine = Watched(max_rows=20, max_tokens=64)
    engine.start(LONG, LONG[50:56])
    engine.start(LONG[20:70], params=PLAIN)
    engine.step()
    assert engine.shapes() == [[(0, 13, 13, False), (1, 6, 5, True), (2, 45, 0, False)]]


def test_the_cache_is_written_and_not_read() -> None:
    engine = Watched(max_rows=64)
    engine.start(LONG[:40], params=PLAIN)
    engine.run()
    (scored,) = engine.start(LONG[:70])
    engine.run()
    assert scored.num_cached_tokens == 0
    assert_scored(scored, LONG[:70])
    (longer,) = engine.start(LONG, params=PLAIN)
    engine.run()
    assert longer.num_cached_tokens == 64, "of which the scored request computed the last 32 first"
    assert output(longer) == expected_tokens(LONG, 12)


def test_what_is_computed_again_is_not_scored_again() -> None:
    engine = Watched(max_rows=4, num_blocks=8)
    (old,) = engine.start(LONG[:46], params=replace(PLAIN, max_tokens=40))
    (young,) = engine.start(LONG[30:90])
    while not engine.scheduler.counters.num_preemptions:
        engine.step()
    assert 0 < young.num_unscored_tokens < 59
    engine.run()
    assert output(old) == expected_tokens(LONG[:46], 40)
    assert_scored(young, LONG[30:90])
    scored = [p for plan in engine.plans for s in plan.sequences if s.request is young for p in s.scored]
    assert scored == list(range(59)), "each position once, in order"
    computed = sum(s.num_tokens for plan in engine.plans for s in plan.sequences if s.request is young)
    assert computed > 63, "its KV was computed again"


def test_a_scored_beginning_is_found_again() -> None:
    engine = Watched(max_rows=20)
    (request,) = engine.start(LONG)
    engine.step()
    engine.step()
    assert request.num_computed_tokens == 40
    engine.scheduler._preempt(request)
    engine.run()
    assert engine.shapes()[2] == [(0, 28, 20, False)], "32 tokens were there, 8 are computed without rows"
    assert_scored(request, LONG)


def test_choices_share_what_the_first_found() -> None:
    engine = Watched(max_rows=20)
    leader = engine.make_request(LONG[:40], SCORED)
    choices = [leader, leader.sibling(1), leader.sibling(2)]
    for request in choices:
        engine.add(request)
    engine.run()
    for request in choices:
        assert_scored(request, LONG[:40])
        assert request.prompt_logprobs is leader.prompt_logprobs
    assert {s.request.arrival for plan in engine.plans for s in plan.sequences if s.scored} == {0}


def test_choices_of_a_leader_that_ended_go_on_where_it_was() -> None:
    engine = Watched(max_rows=20)
    leader = engine.make_request(LONG[:70], SCORED)
    siblings = [leader.sibling(1), leader.sibling(2)]
    for request in (leader, *siblings):
        engine.add(request)
    engine.step()
    engine.step()
    engine.finish(leader, FinishReason.CANCELLED)
    engine.run()
    for request in siblings:
        assert_scored(request, LONG[:70])
        assert output(request) == expected_tokens(LONG[:70], 4, seed=None)
    assert min(p for plan in engine.plans[2:] for s in plan.sequences for p in s.scored) == 40


def test_a_prompt_that_is_only_scored() -> None:
    engine = Watched(max_rows=20)
    requests = engine.start(LONG[:40], [7], params=ONLY)
    engine.run()
    for request, prompt in zip(requests, (LONG[:40], [7]), strict=True):
        assert_scored(request, prompt)
        assert request.finish_reason is FinishReason.LENGTH and output(request) == []
    assert not any(s.is_sampled for plan in engine.plans for s in plan.sequences)
    ends = [(o.request.arrival, o.token_id, o.finish_reason) for o in engine.outputs]
    assert sorted(ends) == [(0, None, FinishReason.LENGTH), (1, None, FinishReason.LENGTH)]
    assert engine.scheduler.counters.output_tokens == 0


def test_a_prompt_that_is_only_scored_may_fill_the_context_and_the_memory() -> None:
    engine = Watched(max_rows=64)
    (request,) = engine.start([1] * 256, params=ONLY)
    engine.run()
    assert_scored(request, [1] * 256)
    with pytest.raises(ContextLengthExceeded, match="prompt: 257 tokens"):
        engine.make_request([1] * 257, ONLY)
    with pytest.raises(ContextLengthExceeded, match="prompt: 256 tokens"):
        engine.make_request([1] * 256, SCORED)
    engine = Watched(num_blocks=4)
    engine.start([1] * 64, params=ONLY)
    engine.run()
    with pytest.raises(OutOfMemory, match=r"max_tokens: 65 tokens with the prompt .* holds 64"):
        engine.make_request([1] * 65, ONLY)


def client_of(engine: Engine) -> LocalClient:
    return LocalClient(engine, lambda params: ByteDecoder(params.stop_strings), no_constraints)


@pytest.mark.parametrize("params", [SCORED, ONLY])
def test_the_first_chunk_has_them(params: SamplingParams) -> None:
    client = client_of(Watched())
    generation = client.submit(LONG[:40], params)
    chunks = []
    while (chunk := client.next_chunk(generation)) is not None:
        chunks.append(chunk)
    first, *others = chunks
    assert first.prompt_logprobs is not None and first.prompt_logprobs[0] is None
    found = [(e.token_id, e.logprob) for e in first.prompt_logprobs[1:] if e is not None]
    assert found == expected_prompt_logprobs(LONG[:40])
    assert len(others) == max(0, (params.max_tokens or 0) - 1)
    assert all(c.prompt_logprobs is None for c in others)
    assert chunks[-1].finish_reason == "length" and chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == params.max_tokens
    client.check_integrity()


def test_who_is_cancelled_before_its_end_has_none() -> None:
    client = client_of(Watched(max_rows=4))
    generation, other = client.submit(LONG, SCORED), client.submit([3], PLAIN)
    client.next_chunk(other)
    client.cancel(generation)
    chunk = client.next_chunk(generation)
    assert chunk is not None and (chunk.finish_reason, chunk.prompt_logprobs) == ("cancelled", None)


TEXTS = ["hello", "a longer prompt that takes more than one block", "x", "another one, " * 9]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_HOME", str(tmp_path / "home"))


def values(entries: Sequence[TokenLogprob | None] | None) -> list[float]:
    assert entries is not None and entries[0] is None
    return [e.logprob for e in entries if e is not None]


@pytest.mark.parametrize(("backend", "policy"), [("reference", "exact"), ("cpu", "exact"), ("cpu", "auto")])
def test_they_are_what_score_says(model_path: Path, backend: str, policy: str) -> None:
    """The logits are the same. ``score`` sums exponentials slice by slice as logits are made, the sampler over a whole
    row, and rounds the sum's logarithm and two differences to f32: each off by at most 2^-24 of values below 16."""
    params = replace(SCORED, prompt_logprobs=3)
    with LLM(model_path, backend=backend, policy=policy) as llm:
        scores = llm.score(TEXTS)
        completions = llm.generate(TEXTS, params)
        plain = llm.generate(TEXTS, replace(params, prompt_logprobs=None))
    for score, completion, other in zip(scores, completions, plain, strict=True):
        entries = completion.prompt_logprobs
        assert values(entries) == pytest.approx(score.logprobs, abs=4e-6, rel=0)
        assert [e.token_id for e in (entries or ())[1:] if e] == list(score.token_ids[1:])
        for entry in (entries or ())[1:]:
            assert entry is not None and len(entry.top) == 3
            assert entry.logprob <= entry.top[0][1] and list(entry.top) == sorted(entry.top, key=lambda t: -t[1])
            assert dict(entry.top).get(entry.token_id, entry.logprob) == entry.logprob
        assert completion.token_ids == other.token_ids and other.prompt_logprobs is None


@pytest.mark.parametrize(
    "options", [{"max_tokens_per_step": 7}, {"max_num_seqs": 2}, {"max_tokens_per_step": 1}], ids=str
)
def test_their_bits_do_not_depend_on_steps_and_neighbours(model_path: Path, options: dict[str, int]) -> None:
    params = [replace(SCORED, max_tokens=12, prompt_logprobs=n) for n in (1, 0, 3, 20)]
    with LLM(model_path) as llm:
        alone = [llm.generate(text, each)[0].prompt_logprobs for text, each in zip(TEXTS, params, strict=True)]
    with LLM(model_path, **options) as llm:  # type: ignore[arg-type]
        mixed = [*params, replace(PLAIN, seed=3, temperature=1.0, repetition_penalty=1.2)]
        together = llm.generate([*TEXTS, "a plain one"], mixed)
        only = llm.generate(TEXTS, [replace(each, max_tokens=0) for each in params])
    assert [c.prompt_logprobs for c in together] == [*alone, None]
    assert [c.prompt_logprobs for c in only] == alone
    assert [(c.text, c.token_ids, c.finish_reason) for c in only] == [("", (), "length")] * 4


def test_every_completion_of_a_prompt_has_them(model_path: Path) -> None:
    params = replace(SCORED, temperature=1.0, seed=1)
    with LLM(model_path) as llm:
        (alone,) = llm.generate(TEXTS[1], params)
        choices = llm.generate(TEXTS[1], replace(params, n=2, best_of=3))
        scored = llm.generate(TEXTS[1], replace(ONLY, n=3))
        llm.generate("x" * CONTEXT_LENGTH, ONLY)
    assert [c.prompt_logprobs for c in (*choices, *scored)] == [alone.prompt_logprobs] * 5
