"""An engine without a thread of its own: steps are run by those who wait for them."""

from __future__ import annotations

import threading

import pytest
from tests.engine.clients import local_setup
from tests.engine.fakes import greedy_text

from lepton_ai.engine.local_client import LocalClient
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.errors import InvalidRequest, LeptonError


def test_a_stop_string_ends_the_steps() -> None:
    whole = greedy_text([1, 2, 3], 20)
    setup = local_setup()
    assert setup.text([1, 2, 3], max_tokens=20, stop=whole[7:10]) == whole[: whole.find(whole[7:10])]
    assert len(setup.executable.steps) == whole.find(whole[7:10]) + 3


def test_cancel_ends_within_a_step_even_in_a_long_prompt() -> None:
    setup = local_setup(max_tokens=4)
    generation = setup.client.submit([1] * 100, SamplingParams(temperature=0.0))
    other = setup.client.submit([2] * 3, SamplingParams(temperature=0.0, max_tokens=9))
    executed = setup.executable.steps

    class CancelAt3(list[int]):
        def append(self, value: int) -> None:
            super().append(value)
            if len(self) == 3:
                setup.client.cancel(generation)

    setup.executable.steps = CancelAt3(executed)
    chunks = list(setup.chunks(generation))
    assert [(c.text, c.finish_reason) for c in chunks] == [("", "cancelled")]
    assert setup.executable.steps == [4, 4, 4, 1], "the other had its share before"
    assert "".join(c.text for c in setup.chunks(other)) == greedy_text([2] * 3, 9)
    setup.client.check_integrity()


def test_a_generation_that_never_started_can_be_closed() -> None:
    setup = local_setup()
    generation = setup.client.submit([1], SamplingParams())
    setup.client.close_generation(generation)
    assert [c.finish_reason for c in setup.chunks(generation)] == ["cancelled"]
    assert setup.executable.steps == []


@pytest.mark.parametrize("failure", [RuntimeError("device lost"), KeyboardInterrupt()])
def test_who_runs_a_broken_step_gets_its_error(failure: BaseException) -> None:
    setup = local_setup()
    first, second = (setup.client.submit([n, 2, 3], SamplingParams()) for n in (1, 2))
    setup.client.next_chunk(first)
    first.chunks.clear()
    setup.executable.failure = failure
    with pytest.raises(type(failure)):
        setup.client.next_chunk(first)
    second.chunks.clear()
    with pytest.raises(LeptonError, match="the engine stopped"):
        setup.client.next_chunk(second)
    setup.client.check_integrity()
    assert setup.text([1, 2, 3], max_tokens=5) == greedy_text([1, 2, 3], 5)


def test_nothing_runs_between_steps() -> None:
    setup = local_setup()
    client = setup.client
    assert isinstance(client, LocalClient)
    is_done = threading.Event()

    def stream() -> None:
        while not is_done.is_set():
            setup.text([1, 2, 3], max_tokens=50)

    thread = threading.Thread(target=stream)
    thread.start()
    for _ in range(20):
        with client.between_steps():
            count = len(setup.executable.steps)
            assert count == len(setup.executable.steps)
    is_done.set()
    thread.join(timeout=20)
    assert not thread.is_alive()
    client.close()
    with pytest.raises(InvalidRequest, match="closed"), client.between_steps():
        pass
