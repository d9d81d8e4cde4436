"""Hard times, each on a server of its own: an end by signal, crashes, readers who sleep, too many requests."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence

from scripts.soak.answers import Ending
from scripts.soak.load import Ends, Load, Report, ask_all, differences
from scripts.soak.requests import Spec
from scripts.soak.server import ReadyWatch, Server, kill, runs, seconds_until
from scripts.soak.setup import Setup

_NOTICED_S, _BACK_S, _GONE_S, _STARTED_S = 1.0, 5.0, 2.0, 2.0
_DRAIN_S = 90


async def ended_by_signal(setup: Setup) -> Report:
    """SIGTERM under load: what was accepted is finished, what comes later is told so, and the status is 0."""
    report = Report("SIGTERM under load")
    with Server(setup.arguments(drain_timeout=_DRAIN_S)) as server:
        specs = [setup.writer.long(stream=stream, max_tokens=40) for stream in (True, False) for _ in range(32)]
        load = Load(server, specs)
        running = asyncio.create_task(load.run(len(specs)))
        await _until_taken(server, load)
        began = time.monotonic()
        async with ReadyWatch(server) as watch:
            server.send_signal(signal.SIGTERM)
            await seconds_until(lambda: watch.first(503, began) is not None, 10)
        knocking = asyncio.create_task(_knock(server, setup.writer.good(1, with_vectors=False)[0]))
        ends = await running
        status = await server.wait_end()
        took_s = time.monotonic() - began
        told = await knocking
        report.counts |= {"requests": len(specs), **ends.counts(), "refused meanwhile": len(told), "status": status}
        report.counts["seconds"] = round(took_s, 1)
        report.breaches += [*ends.breaches(), *server.breaches_of_log(), *server.stray]
        report.expect(len(ends.good()) == len(specs), f"of {len(specs)} accepted requests, {len(ends.good())} are good")
        others = {(e.status, e.code) for e in told} - {(503, "shutting_down")}
        report.expect(not others and bool(told), f"who came later was told {others or 'nothing'}")
        report.expect(status == 0, f"exit status {status}")
        report.expect("not finished" not in server.said, "requests were not finished in time")
        report.expect(await seconds_until(lambda: not runs(server.engine_pid), _GONE_S) < _GONE_S, "the engine runs on")
    return report


async def engine_killed(setup: Setup) -> Report:
    """The engine dies under load: it is noticed, all are answered, another comes, with the same answers."""
    report = Report("kill -9 of the engine")
    with Server(setup.arguments()) as server:
        again = setup.writer.good(setup.num_after, with_vectors=False)
        before = await ask_all(server, again, setup.num_clients)
        load = Load(server, setup.writer.good(20_000, with_vectors=False))
        async with ReadyWatch(server) as watch:
            running = asyncio.create_task(load.run(setup.num_clients))
            await _until_taken(server, load, num_requests=setup.num_clients)
            await asyncio.sleep(1)
            killed = time.monotonic()
            kill(server.engine_pid)
            await seconds_until(lambda: watch.first(503, killed) is not None, 10)
            await seconds_until(lambda: watch.first(200, killed) is not None, 60)
            load.is_over = True
        ends = await running
        noticed_s, back_s = watch.first(503, killed), watch.first(200, killed)
        after = await ask_all(server, again, setup.num_clients)
        report.counts |= {"requests": ends.num_ended, **ends.counts(), "noticed": _ms(noticed_s), "back": _ms(back_s)}
        report.expect(noticed_s is not None and noticed_s < _NOTICED_S, f"noticed after {noticed_s} s")
        report.expect(back_s is not None and back_s < _BACK_S, f"ready again after {back_s} s")
        codes = {e.code for e in ends.endings.values() if not e.is_good}
        report.expect("engine_died" in codes, "no request met the death of the engine")
        report.expect(codes <= {"engine_died", "engine_restarting"}, f"answers have the codes {codes}")
        report.breaches += [*ends.lost, *ends.wrong]
        _compare(report, before, after)
        report.breaches += [*await server.breaches_of_idleness(), *server.breaches_of_log(), *server.stray]
    return report


async def server_killed(setup: Setup) -> Report:
    """The whole server dies under load: its engine goes too, and the port can be had again at once."""
    report = Report("kill -9 of the server")
    with Server(setup.arguments()) as server:
        again = setup.writer.good(setup.num_after, with_vectors=False)
        before = await ask_all(server, again, setup.num_clients)
        load = Load(server, [setup.writer.long(stream=i % 2 == 0, max_tokens=200) for i in range(setup.num_clients)])
        running = asyncio.create_task(load.run(setup.num_clients))
        await _until_taken(server, load)
        kill(server.pid)
        gone_s = await seconds_until(lambda: not runs(server.engine_pid), 30)
        await server.wait_end()
        ends = await running
        report.expect(len(ends.lost) == len(ends.specs), "an answer came from a server that is dead")
        with server.again() as second:
            after = await ask_all(second, again, setup.num_clients)
            report.counts |= {"cut off": len(ends.lost), "engine gone": _ms(gone_s), "started": _ms(second.started_s)}
            report.expect(gone_s < _GONE_S, f"the engine's process ran on for {gone_s:.2f} s")
            report.expect(second.started_s < _STARTED_S, f"ready {second.started_s:.2f} s after its start")
            _compare(report, before, after)
            report.breaches += [*second.breaches_of_log(), *second.stray]
    return report


async def overloaded(setup: Setup) -> Report:
    """More requests than may wait: some are refused, with a time to come again, and all others are answered."""
    report = Report("overload")
    with Server(setup.arguments(max_waiting=8)) as server:
        specs = [setup.writer.long(stream=i % 2 == 0, max_tokens=30) for i in range(3 * 64)]
        ends = await ask_all(server, specs, 64)
        refused = [e for e in ends.endings.values() if (e.status, e.code) == (429, "queue_full")]
        report.counts |= {"requests": len(specs), **ends.counts()}
        report.expect(bool(refused) and bool(ends.good()), "none was refused, or all were")
        report.expect(all(_is_wait(e) for e in refused), "a 429 without a Retry-After of 1 to 60 s")
        report.expect(len(refused) + len(ends.good()) == len(specs), "requests that were neither refused nor answered")
        report.breaches += [*ends.lost, *ends.wrong]
        report.breaches += [*await server.breaches_of_idleness(), *server.breaches_of_log(), *server.stray]
    return report


async def _until_taken(server: Server, load: Load, *, num_requests: int | None = None) -> None:
    """Until the server has all requests of a load, or the first ones."""
    count = len(load.ends.specs) if num_requests is None else num_requests
    while (await server.metrics())["lepton:http_requests_in_flight"] + load.ends.num_ended < count:
        await asyncio.sleep(0.01)


async def _knock(server: Server, spec: Spec) -> Sequence[Ending]:
    """How a request ends, again and again, until the port is closed."""
    told: list[Ending] = []
    while True:
        ends: Ends = await ask_all(server, [spec], 1)
        if ends.lost:
            return told
        told += ends.endings.values()
        await asyncio.sleep(0.05)


def _compare(report: Report, before: Ends, after: Ends) -> None:
    differ = differences(before.good(), after.good(), range(len(after.specs)))
    report.counts |= {"asked again": len(after.specs), "different": len(differ)}
    report.breaches += [*before.breaches(), *after.breaches(), *differ]


def _is_wait(ending: Ending) -> bool:
    seconds = ending.retry_after or ""
    return seconds.isdigit() and 1 <= int(seconds) <= 60


def _ms(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds * 1000:.0f} ms"
