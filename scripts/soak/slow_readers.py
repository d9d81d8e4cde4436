"""Clients that ask and do not read: they are dropped in time, and nobody else notices."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from scripts.soak.load import Ends, Load, Report, ask_all, differences
from scripts.soak.server import Server
from scripts.soak.setup import Setup

_NUM_SLOW, _NUM_OTHERS = 8, 16
_CLIENT_TIMEOUT_S = 4
_SLACK_S = 2.0
_PATIENCE_S = 240.0
_ESTABLISHED = 1


class Sleeper:
    """A client that sends a request whose answer is long, and reads nothing of it."""

    def __init__(self, server: Server, request: bytes) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.connect(("127.0.0.1", server.port))
        self._socket.sendall(request)
        self.port = int(self._socket.getsockname()[1])
        self.stalled = time.monotonic()
        """When the server last got rid of a byte of the answer."""
        self.dropped: float | None = None
        self._unsent = -1

    def look(self, connections: Mapping[int, tuple[int, int]]) -> None:
        """At the server's end of the connection."""
        now = time.monotonic()
        state, unsent = connections.get(self.port, (0, 0))
        if state != _ESTABLISHED:
            self.dropped = self.dropped or now
        elif unsent != self._unsent:
            self.stalled, self._unsent = now, unsent

    def read(self) -> bytes:
        """What was sent until then."""
        received = b""
        self._socket.settimeout(10)
        try:
            while piece := self._socket.recv(1 << 16):
                received += piece
        except OSError:
            pass
        self._socket.close()
        return received


def server_ends(port: int) -> dict[int, tuple[int, int]]:
    """Connections to a port as its server's kernel has them: by the client's port, the state and the bytes unsent."""
    found = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, queues, *_ = line.split()
        if int(local.rpartition(":")[2], 16) == port:
            found[int(remote.rpartition(":")[2], 16)] = int(state, 16), int(queues.partition(":")[0], 16)
    return found


async def slow_readers(setup: Setup) -> Report:
    """Eight that do not read, among others that do."""
    report = Report("clients that do not read")
    with Server(setup.arguments(client_timeout=_CLIENT_TIMEOUT_S)) as server:
        others = setup.writer.good(min(100, setup.num_requests), with_vectors=False)
        before = await ask_all(server, others, _NUM_OTHERS)
        slow = setup.writer.long(stream=True, max_tokens=400, n=3, logprobs=20)
        load = Load(server, others)
        running = asyncio.create_task(load.run(_NUM_OTHERS))
        sleepers = [Sleeper(server, slow.as_bytes()) for _ in range(_NUM_SLOW)]
        end = time.monotonic() + _PATIENCE_S
        with setup.bar("clients that do not read", _NUM_SLOW) as tick:
            while any(each.dropped is None for each in sleepers) and time.monotonic() < end:
                await asyncio.sleep(0.05)
                num_before, ends_of_server = _num_dropped(sleepers), server_ends(server.port)
                for each in sleepers:
                    each.look(ends_of_server)
                for _ in range(_num_dropped(sleepers) - num_before):
                    tick()
        after = await running
        _judge(report, sleepers, before, after)
        report.breaches += [*await server.breaches_of_idleness(), *server.breaches_of_log(), *server.stray]
    return report


def _num_dropped(sleepers: list[Sleeper]) -> int:
    return sum(each.dropped is not None for each in sleepers)


def _judge(report: Report, sleepers: list[Sleeper], before: Ends, after: Ends) -> None:
    waits = [each.dropped - each.stalled for each in sleepers if each.dropped is not None]
    whole = [each for each in sleepers if b"[DONE]" in each.read()]
    differ = differences(before.good(), after.good(), range(len(after.specs)))
    report.counts |= {"slow": len(sleepers), "dropped": len(waits), "others": len(after.specs), **after.counts()}
    report.counts |= {"dropped after": f"{min(waits, default=0):.1f} to {max(waits, default=0):.1f} s"}
    report.counts |= {"different": len(differ)}
    report.expect(len(waits) == len(sleepers), f"{len(sleepers) - len(waits)} who do not read were not dropped")
    report.expect(not whole, f"{len(whole)} got all of their answer: it was too short")
    in_time = all(_CLIENT_TIMEOUT_S - 0.5 < wait < _CLIENT_TIMEOUT_S + _SLACK_S for wait in waits)
    report.expect(in_time, f"dropped after {[round(w, 1) for w in waits]} s, expected {_CLIENT_TIMEOUT_S}")
    report.breaches += [*before.breaches(), *after.breaches(), *differ]
