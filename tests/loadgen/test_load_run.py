"""Loads against a server that does what the test says: who waits for what, and what is counted."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence

import pytest
from tests.loadgen.fake_server import HEAD, LAST_CHUNK, Asked, FakeServer, Reply, answer_all, serving

from lepton_ai.loadgen.address import Address
from lepton_ai.loadgen.failures import Refused
from lepton_ai.loadgen.lengths import Lengths
from lepton_ai.loadgen.run import Load, Measurement, run_load, warm_up
from lepton_ai.loadgen.statistics import report
from lepton_ai.loadgen.synthetic import Pool, Shape, SyntheticWorkload
from lepton_ai.loadgen.target import LoadRequest, Target
from lepton_ai.loadgen.workload import Workload

TOKENS = 4
SHAPE = Shape(prompt_tokens=Lengths(3, 3), output_tokens=Lengths(TOKENS, TOKENS))


class Progress:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def start(self, label: str, total: float) -> None:
        self.told += [label, total]

    def update(self, done: float) -> None:
        self.told.append(done)

    def finish(self) -> None:
        self.told.append("end")


def workload() -> SyntheticWorkload:
    return SyntheticWorkload("fake", SHAPE, Pool(range(50), 1.0), seed=0)


class Blocking:
    """A workload whose ``index``-th request takes the whole process 0.3 s to make."""

    def __init__(self, index: int) -> None:
        self._inner = workload()
        self._left = index

    def next_request(self) -> LoadRequest:
        if self._left == 0:
            time.sleep(0.3)
        self._left -= 1
        return self._inner.next_request()

    def largest_request(self) -> LoadRequest:
        return self._inner.largest_request()


def run(
    server: FakeServer,
    load: Load,
    *,
    source: Workload | None = None,
    timeout_s: float = 20.0,
    seed: int = 1,
    progress: Progress | None = None,
) -> Measurement:
    async def measure() -> Measurement:
        target = Target(Address.parse(server.url), None, timeout_s=timeout_s)
        try:
            return await run_load(target, source or workload(), load, seed=seed, progress=progress or Progress())
        finally:
            await target.close()

    return asyncio.run(measure())


def kinds(measurement: Measurement) -> Sequence[str | None]:
    return [None if outcome.failure is None else outcome.failure.kind for outcome in measurement.outcomes]


class Crowd:
    """Answers, and counts how many requests it has at once."""

    def __init__(self, pause_s: float) -> None:
        self.most = 0
        self._pause_s = pause_s
        self._now = 0

    async def answer(self, asked: Asked, reply: Reply) -> None:
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(self._pause_s)
        self._now -= 1
        await answer_all(asked, reply)


@pytest.mark.parametrize("clients", [1, 3])
def test_a_closed_loop_has_one_request_a_client(clients: int) -> None:
    crowd = Crowd(0.01)
    with serving(FakeServer(crowd.answer)) as server:
        made = run(server, Load(clients=clients, num_requests=10))
    assert crowd.most == clients and len(server.generations) == 10 and server.num_connections == clients
    figures = report(made, None)
    assert (figures.num_answered, figures.output_tokens, figures.prompt_tokens) == (10, 10 * TOKENS, 30)
    assert figures.num_short == 0 and figures.pieces_per_token == 1.0
    assert made.elapsed_s >= 0.01 * 10 / clients
    assert figures.first_token is not None and 0.01 <= figures.first_token.p50 < 1
    assert figures.client_cpu_s > 0 and figures.client_cores < 1.5


def test_waits_are_those_of_the_server() -> None:
    first_s, each_s = 0.12, 0.06

    async def slow(asked: Asked, reply: Reply) -> None:
        reply.writer.write(HEAD)
        reply.event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        await asyncio.sleep(first_s)
        for index in range(TOKENS):
            if index:
                await asyncio.sleep(each_s)
            reply.text("x")
        reply.end(3, TOKENS)

    with serving(FakeServer(slow)) as server:
        figures = report(run(server, Load(clients=2, num_requests=4)), None)
    spreads = (figures.first_token, figures.between_tokens, figures.per_output_token, figures.latency)
    least = (first_s, each_s, each_s, first_s + each_s * (TOKENS - 1))
    for spread, known in zip(spreads, least, strict=True):
        # No sleep is shorter than it says; how much longer is the machine's business.
        assert spread is not None and known - 0.005 <= spread.p50 < known + 0.5
    assert figures.between_tokens is not None and figures.between_tokens.count == 4 * (TOKENS - 1)


def test_an_open_loop_waits_for_no_answer() -> None:
    """No answer comes before all requests have: clients that wait would never send the second."""
    count = 12
    here: list[Asked] = []

    async def together(asked: Asked, reply: Reply) -> None:
        here.append(asked)
        while len(here) < count:
            await asyncio.sleep(0.001)
        await answer_all(asked, reply)

    with serving(FakeServer(together)) as server:
        made = run(server, Load(rate_per_s=200.0, num_requests=count))
    assert kinds(made) == [None] * count and server.num_connections == count


def test_waits_count_from_when_a_request_was_to_be_sent() -> None:
    """The client itself stalls for 0.3 s: who was to be sent meanwhile has waited for that too."""
    with serving(FakeServer()) as server:
        made = run(server, Load(rate_per_s=100.0, num_requests=40), source=Blocking(20))
    late = [outcome for outcome in made.outcomes if outcome.sent_s - outcome.intended_s > 0.1]
    # 100 a second: of the 19 that follow the stall, those of its first two tenths were more than a tenth late.
    assert len(late) >= 8
    for outcome in made.outcomes:
        assert outcome.sent_s >= outcome.intended_s and outcome.first_token_s is not None
        assert outcome.first_token_s >= outcome.sent_s - outcome.intended_s
    figures = report(made, None)
    assert figures.send_delay is not None and figures.send_delay.p99 > 0.2
    assert figures.latency is not None and figures.latency.p99 > 0.2


def test_intended_times_are_those_of_the_seed() -> None:
    with serving(FakeServer()) as server:
        gaps = []
        for seed in (1, 1, 2):
            times = sorted(
                o.intended_s for o in run(server, Load(rate_per_s=300.0, num_requests=8), seed=seed).outcomes
            )
            gaps.append([b - a for a, b in itertools.pairwise(times)])
    assert gaps[0] == pytest.approx(gaps[1], abs=1e-9) and gaps[0] != pytest.approx(gaps[2], abs=1e-4)


@pytest.mark.parametrize("kind", ["clients", "rate"])
def test_a_duration(kind: str) -> None:
    load = Load(clients=2, duration_s=0.3) if kind == "clients" else Load(rate_per_s=50.0, duration_s=0.3)
    crowd = Crowd(0.02)
    with serving(FakeServer(crowd.answer)) as server:
        made = run(server, load)
    assert 2 <= len(made.outcomes) <= 40
    start = min(outcome.intended_s for outcome in made.outcomes)
    assert max(outcome.intended_s for outcome in made.outcomes) - start < 0.3
    assert made.elapsed_s >= 0.25


async def fail_in_turn(asked: Asked, reply: Reply) -> None:
    """By the first id of the prompt."""
    turn = asked.body["prompt"][0] % 7
    match turn:
        case 0:
            reply.error(429, "rate_limited")
        case 1:
            reply.error(503, "overloaded")
        case 2:  # it breaks off behind a token
            reply.writer.write(HEAD)
            reply.text("x")
            reply.drop()
        case 3:
            reply.writer.write(HEAD)
            reply.text("x")
            reply.event({"error": {"message": "it died", "type": "server_error", "code": "engine_died"}})
            reply.writer.write(LAST_CHUNK)
        case 4:
            reply.writer.write(HEAD)
            reply.text("x")
            reply.writer.write(LAST_CHUNK)
        case 5:
            await asyncio.sleep(60)
        case 6:
            await answer_all(asked, reply)


class Numbered:
    """Requests whose prompts are 0, 1, 2 ..."""

    def __init__(self) -> None:
        self._number = -1

    def next_request(self) -> LoadRequest:
        self._number += 1
        body = f'{{"prompt": [{self._number}], "max_tokens": 2}}'
        return LoadRequest("/v1/completions", body.encode(), 2)

    def largest_request(self) -> LoadRequest:
        return self.next_request()


def test_failures_by_kind() -> None:
    with serving(FakeServer(fail_in_turn)) as server:
        made = run(server, Load(rate_per_s=500.0, num_requests=14), source=Numbered(), timeout_s=2.0)
    figures = report(made, None)
    assert (figures.num_requests, figures.num_answered, figures.num_refused) == (14, 2, 2)
    assert figures.failures == {
        "HTTP 503 overloaded": 2,
        "broke off": 2,
        "in a stream engine_died": 2,
        "no [DONE]": 2,
        "timed out": 2,
    }
    assert figures.output_tokens == 4


def test_a_client_whose_request_failed_waits_before_the_next() -> None:
    async def refuse(asked: Asked, reply: Reply) -> None:
        reply.error(429, "rate_limited")

    with serving(FakeServer(refuse)) as server:
        made = run(server, Load(clients=1, num_requests=4))
    assert kinds(made) == ["HTTP 429 rate_limited"] * 4 and made.elapsed_s >= 0.3


def test_progress() -> None:
    with serving(FakeServer()) as server:
        for load, known in (
            (Load(clients=1, num_requests=3), ["1 client", 3, 1, 2, 3, "end"]),
            (Load(rate_per_s=99.5, num_requests=1), ["99.5 requests/s", 1, 1, "end"]),
        ):
            progress = Progress()
            run(server, load, progress=progress)
            assert progress.told == known
        progress = Progress()
        run(server, Load(clients=3, duration_s=0.2), progress=progress)
        label, total, *done, end = progress.told
        assert (label, total, end) == ("3 clients", 0.2, "end")
        assert done and all(isinstance(value, float) and 0 < value <= 0.2 for value in done)


def test_warming_up() -> None:
    async def warm(server: FakeServer) -> None:
        target = Target(Address.parse(server.url), None, timeout_s=9)
        await warm_up(target, workload(), 3)
        assert len(server.generations) == 3
        server.statuses = {"/v1/completions": 400}
        with pytest.raises(Refused, match="HTTP 400, scripted"):
            await warm_up(target, workload(), 3)
        assert len(server.generations) == 4
        await target.close()

    with serving(FakeServer()) as server:
        asyncio.run(warm(server))
