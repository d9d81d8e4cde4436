"""How a server ends: it takes nothing more, finishes what it has, and answers what it cannot finish."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from lepton_ai.serve.life.options import LifeOptions
from lepton_ai.serve.life.state import ShuttingDown
from lepton_ai.serve.life.work import Desk

_LOG = logging.getLogger("lepton_ai.serve")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LAST_WORDS_S = 1.0
"""Before the end, for telling those who were not finished."""


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event that the first SIGINT or SIGTERM sets. A second one ends the process at once, by the system's hand."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    stopped = asyncio.Event()

    def stop() -> None:
        stopped.set()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


async def drain(desk: Desk, options: LifeOptions) -> bool:
    """Refuse what comes, and wait for what is there. What does not end in time fails with ShuttingDown.

    The sockets are for the caller to close: until then, who comes is told. False: some clients did not take their
    answers.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    desk.life.drain()
    _LOG.info("draining: %d requests are to be finished", desk.life.num_requests)
    last_words_s = min(_LAST_WORDS_S, options.drain_timeout_s / 2)
    is_idle = await desk.life.wait_idle(options.drain_timeout_s - last_words_s)
    if not is_idle:
        _LOG.warning("%d requests were not finished in time", desk.life.num_requests)
        desk.close(ShuttingDown("the server ends before the answer is complete"))
        is_idle = await desk.life.wait_idle(last_words_s)
    await asyncio.sleep(max(0.0, began + options.drain_delay_s - loop.time()))
    return is_idle
