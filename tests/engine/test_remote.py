"""What only an engine at the other end of a socket can do, or do wrong."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest
from tests.engine.clients import RemoteSetup
from tests.engine.fakes import expected_tokens, greedy_text

from lepton_ai.engine.constraints.constraint import Constraint
from lepton_ai.engine.constraints.token_matcher import TokenMatcher
from lepton_ai.engine.outputs import Usage
from lepton_ai.engine.remote import hosted
from lepton_ai.engine.remote.connection import RemoteGeneration
from lepton_ai.engine.remote.link import MAX_MESSAGE_BYTES, Link, LinkClosed, ProtocolError
from lepton_ai.engine.remote.messages import Cancel, Command, Pause, Submit, decode_params, encode_params
from lepton_ai.engine.request import FinishReason
from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.errors import (
    ConstraintTooComplex,
    ContextLengthExceeded,
    EngineDied,
    InvalidRequest,
    LeptonError,
    OutOfMemory,
    WeightMismatch,
    rebuild,
)

STEP_S = 0.002
"""Of a step, so that what a client says about it comes before the end."""


@pytest.fixture
def setup() -> Iterator[RemoteSetup]:
    made = RemoteSetup()
    yield made
    made.close()


@pytest.fixture
def ends() -> Iterator[tuple[Link[Command, Command], socket.socket]]:
    """A link that receives commands, and the bare other end."""
    mine, its = socket.socketpair()
    link: Link[Command, Command] = Link(mine, msgspec.msgpack.Decoder(Command).decode)
    yield link, its
    link.close()
    its.close()


def wait_until(condition: object, timeout_s: float = 10.0) -> None:
    assert callable(condition)
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


def test_a_reader_who_is_behind_makes_its_request_wait(setup: RemoteSetup) -> None:
    setup.executable.step_s = STEP_S
    params = SamplingParams(temperature=0.0, max_tokens=200)
    submission = setup.client.begin([1, 2, 3], params, max_unread=16)
    submission.answer.result(10)
    (generation,) = submission.generations
    wait_until(lambda: setup.client.stats().num_paused == 1)
    assert 16 <= len(generation.chunks) < 200 and not generation.is_finished
    assert setup.client.stats().kv_blocks_used == 0, "a paused request holds memory"
    setup.client.check_integrity()
    assert setup.text([5] * 3, max_tokens=5) == greedy_text([5] * 3, 5), "others go on"
    chunks = []
    for chunk in setup.chunks(generation):
        chunks.append(chunk)
        time.sleep(0.0002)
    assert [i for c in chunks for i in c.token_ids] == expected_tokens([1, 2, 3], 200)
    assert setup.client.stats().num_paused == 0
    setup.client.check_integrity()


def test_a_paused_request_can_be_cancelled(setup: RemoteSetup) -> None:
    setup.executable.step_s = STEP_S
    submission = setup.client.begin([1, 2, 3], SamplingParams(max_tokens=200), max_unread=4)
    wait_until(lambda: setup.client.stats().num_paused == 1)
    setup.client.close_generation(submission.generations[0])
    assert setup.client.stats().num_paused == 0
    setup.client.check_integrity()


def test_the_end_of_the_engine_is_noticed(setup: RemoteSetup) -> None:
    generation = setup.client.submit([1] * 3, SamplingParams(max_tokens=240))
    setup.link.close()
    with pytest.raises(EngineDied, match="a test's thread"):
        list(setup.chunks(generation))
    with pytest.raises(EngineDied):
        setup.client.submit([1], SamplingParams())
    with pytest.raises(EngineDied):
        setup.client.stats()


def test_an_unknown_model_is_refused(setup: RemoteSetup) -> None:
    setup.client._name = "other"
    with pytest.raises(InvalidRequest, match=r"model: expected one of \['fake'\], got 'other'"):
        setup.client.submit([1], SamplingParams())
    with pytest.raises(InvalidRequest, match="model: expected one of"):
        setup.client.stats()
    setup.client._name = "fake"
    with pytest.raises(InvalidRequest, match="model: expected an encoder, got 'fake'"):
        setup.client.embed(["text"], pooling=None, normalize=None, max_length=None).result(10)


@pytest.mark.parametrize("ids", [[2**31], [2**63], [2**64], [10**40], [-1], [1.5]])
def test_ids_that_could_not_be_sent(setup: RemoteSetup, ids: list[int]) -> None:
    """The thread that sends would end of them, and every later request wait for ever."""
    with pytest.raises(InvalidRequest, match="texts: expected text"):
        setup.client.embed([ids], pooling=None, normalize=None, max_length=None)
    assert setup.text([1, 2], max_tokens=3) == greedy_text([1, 2], 3)


def test_a_command_that_cannot_be_sent_is_told_of(setup: RemoteSetup) -> None:
    reply = setup.connection.ask(10**6, Cancel([2**70]))
    with pytest.raises(LeptonError, match="the client of an engine failed"):
        reply.result(10)


def test_log_probabilities_that_no_message_holds(setup: RemoteSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosted, "_MAX_LOGPROBS", 8)
    with pytest.raises(InvalidRequest, match="prompt_logprobs: expected at most 8 for a prompt, got 9"):
        setup.client.submit([1, 2, 3], SamplingParams(prompt_logprobs=2))


def test_compiling_keeps_nobody_waiting() -> None:
    may_end = threading.Event()

    def compile_slowly(constraint: Constraint) -> TokenMatcher:
        assert may_end.wait(10)
        raise ConstraintTooComplex("constraint: too large", param="constraint")

    setup = RemoteSetup(compile_constraint=compile_slowly)
    params = SamplingParams(constraint=Constraint.regex("a+"), max_tokens=5)
    submissions = [setup.client.begin([1, 2], params) for _ in range(2)]
    assert setup.text([1, 2, 3], max_tokens=5) == greedy_text([1, 2, 3], 5)
    assert not any(s.answer.done() for s in submissions)
    may_end.set()
    for submission in submissions:
        with pytest.raises(ConstraintTooComplex, match="too large"):
            submission.answer.result(10)
        with pytest.raises(ConstraintTooComplex):
            setup.client.next_chunk(submission.generations[0])
    setup.client.check_integrity()
    setup.close()


def test_messages_come_whole_however_they_are_cut(ends: tuple[Link[Command, Command], socket.socket]) -> None:
    link, other = ends
    sent: list[Command] = [Cancel([1, 2]), Pause(7), Submit("m", [9], b"\0" * 300_000, {}, RequestOptions(priority=2))]
    bodies = [msgspec.msgpack.encode(message) for message in sent]
    data = b"".join(struct.pack("<I", len(body)) + body for body in bodies)
    received: list[Command] = []

    def send() -> None:
        for piece in (data[:3], data[3:5], data[5:40], data[40:]):
            other.sendall(piece)
            time.sleep(0.01)

    thread = threading.Thread(target=send)
    thread.start()
    while len(received) < len(sent):
        received += link.receive(wait=True)
    thread.join()
    assert received == sent
    assert link.receive(wait=False) == []
    other.close()
    with pytest.raises(LinkClosed):
        link.receive(wait=True)


def test_what_is_sent_at_once_takes_no_waiting(ends: tuple[Link[Command, Command], socket.socket]) -> None:
    link, other = ends
    reader: Link[Command, Command] = Link(other, msgspec.msgpack.Decoder(Command).decode)
    short, long = (Submit("m", [9], b"\0" * size, {}, RequestOptions()) for size in (3000, 5000))
    assert not link.send_now(long)
    assert link.send_now(short) and reader.receive(wait=True) == [short]
    num_sent = 0
    while link.send_now(short):  # until the other end would have to read
        num_sent += 1
    assert num_sent > 3
    received: list[Command] = []
    while len(received) < num_sent:
        received += reader.receive(wait=True)
    assert received == [short] * num_sent
    assert link.send_now(short) and reader.receive(wait=True) == [short]
    other.close()
    with pytest.raises(LinkClosed):
        link.send_now(short)


def test_who_sends_at_once_does_not_wait_for_who_waits(ends: tuple[Link[Command, Command], socket.socket]) -> None:
    link, other = ends
    reader: Link[Command, Command] = Link(other, msgspec.msgpack.Decoder(Command).decode)
    large = Submit("m", [9], b"\0" * (8 << 20), {}, RequestOptions())
    thread = threading.Thread(target=link.send, args=(large,))
    thread.start()
    wait_until(lambda: not link.send_now(Cancel([1])))
    received: list[Command] = []
    while large not in received:
        received += reader.receive(wait=True)
    thread.join()
    assert link.send_now(Cancel([2]))


@pytest.mark.parametrize(
    "body",
    [
        b"\xc1",
        msgspec.msgpack.encode(["Unknown", 1]),
        msgspec.msgpack.encode(["Cancel", ["a"]]),
        msgspec.msgpack.encode(["Cancel", [1], "more"]),
        msgspec.msgpack.encode(["Submit", "m", [1], b"", {}, {"priority": 1000}]),
        msgspec.msgpack.encode(["Submit", "m", [1], b"", {"temperature": {"a": {}}}, {}]),
    ],
)
def test_what_is_no_message_is_refused(ends: tuple[Link[Command, Command], socket.socket], body: bytes) -> None:
    link, other = ends
    other.sendall(struct.pack("<I", len(body)) + body)
    with pytest.raises(ProtocolError, match="message: "):
        link.receive(wait=True)


def test_a_giant_length_is_refused_before_it_is_read(ends: tuple[Link[Command, Command], socket.socket]) -> None:
    link, other = ends
    other.sendall(struct.pack("<I", MAX_MESSAGE_BYTES + 1))
    with pytest.raises(ProtocolError, match=f"at most {MAX_MESSAGE_BYTES} bytes, got {MAX_MESSAGE_BYTES + 1}"):
        link.receive(wait=True)
    with pytest.raises(ProtocolError, match="expected at most"):
        link.send(Submit("m", [1], b"\0" * (MAX_MESSAGE_BYTES + 1), {}, RequestOptions()))


def test_all_parameters_survive_the_way() -> None:
    params = SamplingParams(
        temperature=0.5,
        top_k=3,
        top_p=0.9,
        seed=2**64 - 1,
        stop=["a", "b"],
        stop_token_ids=[1, 2],
        logprobs=3,
        logit_bias={5: -100.0, 7: 1.5},
        n=2,
        best_of=3,
        constraint=Constraint.regex("a+"),
        max_tokens=9,
    )
    wire = msgspec.msgpack.decode(msgspec.msgpack.encode(encode_params(params)), strict=False)
    assert decode_params(wire) == params
    assert encode_params(SamplingParams()) == {}
    assert decode_params({}) == SamplingParams()


@pytest.mark.parametrize(
    "wire", [{"temprature": 1.0}, {"constraint": "a+"}, {"constraint": ["regexp", "a+"]}, {"n": 0}]
)
def test_parameters_that_nobody_can_have_sent(wire: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        decode_params(wire)  # type: ignore[arg-type]


def test_errors_are_rebuilt_as_what_they_were() -> None:
    for error in (InvalidRequest("a", param="b"), OutOfMemory("c"), WeightMismatch("d"), LeptonError("e")):
        made = rebuild(error.code, error.message, error.param)
        assert type(made) is type(error) and made.to_dict() == error.to_dict()
    assert type(rebuild("unknown", "f", None)) is LeptonError


class Recorder:
    """Writes down what an observer is told."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.ends: list[tuple[float, FinishReason, Usage]] = []

    def on_token(self, at_s: float) -> None:
        assert not self.ends
        self.times.append(at_s)

    def on_end(self, at_s: float, reason: FinishReason, usage: Usage) -> None:
        self.ends.append((at_s, reason, usage))


def observed(
    setup: RemoteSetup, prompt: list[int], params: SamplingParams, max_unread: int | None = None
) -> tuple[list[RemoteGeneration], list[Recorder]]:
    made: list[Recorder] = []

    def observe() -> Recorder:
        made.append(Recorder())
        return made[-1]

    submission = setup.client.begin(prompt, params, max_unread=max_unread, observe=observe)
    submission.answer.result(10)
    return submission.generations, made


def test_an_observer_is_told_of_each_token_and_of_the_end(setup: RemoteSetup) -> None:
    before = time.monotonic()
    generations, recorders = observed(setup, [1, 2, 3], SamplingParams(temperature=1.0, max_tokens=9, n=2))
    texts = [list(setup.chunks(generation)) for generation in generations]
    for chunks, recorder in zip(texts, recorders, strict=True):
        (end,) = recorder.ends
        assert len(recorder.times) == sum(len(c.token_ids) for c in chunks) == end[2].completion_tokens
        assert [before, *recorder.times, end[0]] == sorted([before, *recorder.times, end[0]])
        assert (end[1].value, end[2]) == (chunks[-1].finish_reason, chunks[-1].usage)


def test_an_observer_is_told_how_it_ended(setup: RemoteSetup) -> None:
    setup.executable.step_s = STEP_S
    greedy = SamplingParams(temperature=0.0, max_tokens=30)
    whole = greedy_text([7, 8], 30)
    (generation,), (stopped,) = observed(setup, [7, 8], replace(greedy, stop=[whole[4]]))
    list(setup.chunks(generation))
    (generation,), (scored,) = observed(setup, [7, 8], replace(greedy, max_tokens=0, prompt_logprobs=1))
    list(setup.chunks(generation))
    (generation,), (left,) = observed(setup, [7, 8], replace(greedy, max_tokens=200), max_unread=4)
    wait_until(lambda: setup.client.stats().num_paused == 1)
    setup.client.close_generation(generation)
    (generation,), (failed,) = observed(setup, [7, 8], replace(greedy, max_tokens=200), max_unread=4)
    wait_until(lambda: setup.client.stats().num_paused == 1)
    assert setup.client.is_connected
    setup.link.close()
    setup.connection._threads[1].join(10)
    assert not setup.client.is_connected
    recorders = (stopped, scored, left, failed)
    assert [[reason.value for _, reason, _ in r.ends] for r in recorders] == [
        ["stop"],
        ["length"],
        ["cancelled"],
        ["error"],
    ]
    assert stopped.ends[0][2].completion_tokens == len(stopped.times) == whole.index(whole[4]) + 1
    assert scored.times == [] and scored.ends[0][2].prompt_tokens == 2


def test_an_observer_is_not_told_of_what_was_refused(setup: RemoteSetup) -> None:
    recorders: list[Recorder] = []

    def observe() -> Recorder:
        recorders.append(Recorder())
        return recorders[-1]

    submission = setup.client.begin([1], SamplingParams(max_tokens=10**6, n=3), observe=observe)
    with pytest.raises(ContextLengthExceeded):
        submission.answer.result(10)
    assert [r.ends for r in recorders] == [[]] * 3


def test_of_several_completions_that_are_refused_none_is_left(setup: RemoteSetup) -> None:
    submission = setup.client.begin([1], SamplingParams(max_tokens=10**6, n=3))
    with pytest.raises(ContextLengthExceeded):
        submission.answer.result(10)
    wait_until(lambda: all(generation.is_finished for generation in submission.generations))
    assert setup.connection._generations == {}
    setup.client.close()  # which waits for all that is under way
