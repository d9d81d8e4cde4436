from __future__ import annotations

import threading
import time

from lepton_ai.engine.turns import Turns


def wait_for(condition: object, count: int) -> None:
    deadline = time.monotonic() + 10
    while len(condition) != count and time.monotonic() < deadline:  # type: ignore[arg-type]
        time.sleep(0.001)
    assert len(condition) == count  # type: ignore[arg-type]


def test_turns_come_in_order() -> None:
    turns = Turns()
    order: list[int] = []
    threads = []

    def work(n: int) -> None:
        with turns.turn():
            order.append(n)

    with turns.turn():
        for n in range(5):
            threads.append(threading.Thread(target=work, args=(n,)))
            threads[-1].start()
            wait_for(turns._queue, n + 1)
    for thread in threads:
        thread.join(timeout=10)
    assert order == [0, 1, 2, 3, 4]


def test_who_is_served_leaves_the_queue_and_the_next_goes_on() -> None:
    turns = Turns()
    is_served = False
    took: list[bool] = []
    turns.take(lambda: False)
    first = threading.Thread(target=lambda: took.append(turns.take(lambda: is_served)))
    first.start()
    wait_for(turns._queue, 1)

    def work() -> None:
        with turns.turn():
            took.append(True)

    second = threading.Thread(target=work)
    second.start()
    wait_for(turns._queue, 2)
    is_served = True
    turns.give()
    first.join(timeout=10)
    second.join(timeout=10)
    assert sorted(took) == [False, True]


def test_a_turn_ends_with_its_error() -> None:
    turns = Turns()
    try:
        with turns.turn():
            raise ValueError
    except ValueError:
        pass
    assert turns.take(lambda: False)
