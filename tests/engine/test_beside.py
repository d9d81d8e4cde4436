from __future__ import annotations

import threading

import pytest

from lepton_ai.engine.beside import Beside


def test_what_a_call_returns() -> None:
    with Beside(threading.get_ident) as call:
        assert call.result() == call.result() != threading.get_ident()


def test_what_a_call_raises() -> None:
    def fail() -> int:
        raise ZeroDivisionError("beside")

    with Beside(fail) as call, pytest.raises(ZeroDivisionError, match="beside"):
        call.result()


def test_leaving_waits_for_the_end() -> None:
    may_end, has_ended = threading.Event(), threading.Event()

    def wait() -> None:
        may_end.wait(timeout=60)
        has_ended.set()

    with pytest.raises(KeyError), Beside(wait):
        may_end.set()
        raise KeyError
    assert has_ended.is_set()
