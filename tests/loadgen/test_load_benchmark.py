"""From the first question to the figures: against servers that lack a route, a field or a key, and against Lepton's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from tests.engine.tiny_gguf import tiny_gguf
from tests.loadgen.fake_server import HEAD, Asked, FakeServer, Reply, answer_all, serving
from tests.serve.running import Running, running

from lepton_ai.errors import InvalidRequest
from lepton_ai.loadgen.address import Address
from lepton_ai.loadgen.benchmark import Benchmark, FilePrompts, Plan, run_benchmark
from lepton_ai.loadgen.failures import CannotConnect, Refused, RequestFailed
from lepton_ai.loadgen.lengths import Lengths
from lepton_ai.loadgen.objectives import Objectives
from lepton_ai.loadgen.prompt_file import FilePrompt
from lepton_ai.loadgen.run import Load
from lepton_ai.loadgen.synthetic import Shape
from lepton_ai.serve.access import Key, KeyRing, digest, new_secret

SHAPE = Shape(prompt_tokens=Lengths(6, 12), output_tokens=Lengths(3, 3))
SECRET = new_secret()


class Silent:
    """Tells nobody."""

    def start(self, label: str, total: float) -> None: ...
    def update(self, done: float) -> None: ...
    def finish(self) -> None: ...


def plan(url: str, **more: Any) -> Plan:
    values: dict[str, Any] = {
        "source": SHAPE,
        "loads": [Load(clients=2, num_requests=6)],
        "seed": 0,
        "timeout_s": 20.0,
    } | more
    return Plan(address=Address.parse(url), **values)


def run(url: str, **more: Any) -> Benchmark:
    return asyncio.run(run_benchmark(plan(url, **more), Silent()))


def test_what_a_server_is_asked() -> None:
    with serving(FakeServer()) as server:
        made = run(server.url, num_warmup=2, loads=[Load(clients=2, num_requests=4), Load(clients=1, num_requests=3)])
    assert [f"{asked.method} {asked.path}" for asked in server.asked[:3]] == [
        "GET /version",
        "GET /v1/models",
        "POST /tokenize",
    ]
    assert len(server.generations) == 2 + 4 + 3
    assert (made.model, made.server_version, made.prompt_form) == ("fake", "9.8.7", "ids")
    assert [row.num_answered for row in made.reports] == [4, 3]
    assert {asked.body["model"] for asked in server.generations} == {"fake"}
    assert len(server.generations[0].body["prompt"]) == 12  # the warm-up begins with the largest
    assert all(set(asked.body["prompt"]) <= {5, 6, 7, 8, 9} for asked in server.generations)
    assert "authorization" not in server.asked[0].headers
    assert server.asked[0].headers["host"] == server.url.removeprefix("http://")


def test_a_server_that_has_little() -> None:
    absent = {"/version": 404, "/tokenize": 404, "/v1/models": 500}
    with serving(FakeServer(statuses=absent)) as server:
        made = run(f"{server.url}/v1", model="mine")
        assert (made.model, made.server_version, made.prompt_form) == ("mine", None, "texts")
        assert isinstance(server.generations[0].body["prompt"], str)
        with pytest.raises(Refused, match="HTTP 500, scripted"):
            run(server.url)
    with serving(FakeServer(models=())) as server, pytest.raises(InvalidRequest, match="model: expected a name"):
        run(server.url)


def test_chats_and_prompts_of_a_file() -> None:
    with serving(FakeServer()) as server:
        chats = Shape(prompt_tokens=Lengths(6, 6), output_tokens=Lengths(3, 3), is_chat=True)
        assert run(server.url, source=chats).prompt_form == "chats"
        assert server.generations[-1].path == "/v1/chat/completions"
        prompts = FilePrompts([FilePrompt("/v1/completions", {"prompt": "a b"}, 2)], Lengths(3, 3))
        made = run(server.url, source=prompts)
        assert made.prompt_form == "a file's" and made.reports[0].output_tokens == 12
        assert made.reports[0].prompt_tokens == 12 and "ignore_eos" not in server.generations[-1].body


def test_a_server_that_does_not_know_ignore_eos() -> None:
    async def strict(asked: Asked, reply: Reply) -> None:
        if "ignore_eos" in asked.body:
            reply.error(400, "unknown_field", "ignore_eos: no such field")
        else:
            await answer_all(asked, reply)

    with serving(FakeServer(strict)) as server:
        with pytest.raises(InvalidRequest, match=r"the server does not know it.*--no-ignore-eos"):
            run(server.url)
        short = Shape(prompt_tokens=Lengths(6, 6), output_tokens=Lengths(3, 3), ignore_eos=False)
        assert run(server.url, source=short).reports[0].num_answered == 6


def test_a_server_that_does_not_heed_ignore_eos() -> None:
    async def short(asked: Asked, reply: Reply) -> None:
        reply.writer.write(HEAD)
        reply.text("x")
        reply.end(6, 1, cached_tokens=5)

    with serving(FakeServer(short)) as server:
        (row,) = run(server.url).reports
    assert (row.num_short, row.output_tokens, row.cached_tokens) == (6, 6, 30)


def test_a_key_is_sent_and_shown_nowhere() -> None:
    with serving(FakeServer(statuses={"/v1/models": 401})) as server:
        with pytest.raises(Refused, match=r"HTTP 401.*LEPTON_API_KEY") as raised:
            run(server.url, api_key=SECRET)
        assert SECRET not in raised.value.message and SECRET not in repr(plan(server.url, api_key=SECRET))
        assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {SECRET}"}
        with pytest.raises(InvalidRequest, match="api_key: expected printable ASCII") as wrong:
            run(server.url, api_key="a\r\nx-evil: 1")
        assert "evil" not in wrong.value.message


def test_the_first_failure_ends_it_and_later_ones_are_counted() -> None:
    async def once(asked: Asked, reply: Reply) -> None:
        if len(server.generations) == 1:
            await answer_all(asked, reply)
        else:
            reply.error(503, "overloaded")

    with serving(FakeServer(once)) as server:
        (row,) = run(server.url).reports
        assert (row.num_answered, row.failures) == (0, {"HTTP 503 overloaded": 6})
        with pytest.raises(Refused, match="503, overloaded"):
            run(server.url)


def test_usage_is_needed() -> None:
    async def without(asked: Asked, reply: Reply) -> None:
        reply.writer.write(HEAD)
        reply.text("x")
        reply.chunk(b"data: [DONE]\n\n")
        reply.writer.write(b"0\r\n\r\n")

    with serving(FakeServer(without)) as server, pytest.raises(RequestFailed, match="ended without usage"):
        run(server.url)


def test_nobody_is_there() -> None:
    with serving(FakeServer()) as server:
        url = server.url
    with pytest.raises(CannotConnect, match="Connect"):
        run(url)


@pytest.fixture(scope="module")
def lepton_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTON_HOME", str(tmp_path_factory.mktemp("home")))
        path = tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")
        with running({"tiny": path}, KeyRing([Key("me", digest(SECRET))])) as made:
            yield made


@pytest.mark.parametrize("is_chat", [False, True])
def test_leptons_own_server(lepton_server: Running, is_chat: bool) -> None:
    shape = Shape(prompt_tokens=Lengths(30, 40), output_tokens=Lengths(5, 9), shared_prefix_tokens=20, is_chat=is_chat)
    loads = [Load(clients=3, num_requests=9), Load(rate_per_s=30.0, num_requests=6)]
    objectives = Objectives(latency_s=60.0)
    made = run(lepton_server.url, source=shape, loads=loads, api_key=SECRET, objectives=objectives)
    assert made.model == "tiny" and made.server_version is not None
    for row, count in zip(made.reports, (9, 6), strict=True):
        assert (row.num_answered, row.num_refused, row.failures, row.num_short) == (count, 0, {}, 0)
        assert 5 * count <= row.output_tokens <= 9 * count
        assert row.goodput is not None and row.goodput.num_met == count
        assert row.first_token is not None and row.latency is not None and 0 < row.latency.p50 < 60
        if not is_chat:  # exactly as the shape says
            assert 30 * count <= row.prompt_tokens <= 40 * count
    assert made.reports[1].cached_tokens > 0  # the beginning that all have in common


def test_leptons_own_server_refuses(lepton_server: Running) -> None:
    long = Shape(prompt_tokens=Lengths(250, 250), output_tokens=Lengths(20, 20))
    with pytest.raises(Refused, match=r"400, context_length_exceeded: .*exceed the context of 256 tokens"):
        run(lepton_server.url, source=long, api_key=SECRET)
    with pytest.raises(Refused, match="401, invalid_api_key"):
        run(lepton_server.url, api_key=None)
    with pytest.raises(Refused, match="404, model_not_found: model: expected one of tiny, got 'absent'"):
        run(lepton_server.url, model="absent", api_key=SECRET, source=FilePrompts([_CHAT], Lengths(3, 3)))


_CHAT = FilePrompt("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}, None)
