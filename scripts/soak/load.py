"""Many clients at once, and the ends of their requests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from scripts.soak.answers import Ending, Wrong, breaches_of, read
from scripts.soak.client import Client, Lost
from scripts.soak.requests import Spec
from scripts.soak.server import Server

_PAUSE_S = 0.25
"""Of a client that was refused while there is no engine. The answer says longer: that would try too little here."""


@dataclass(slots=True)
class Report:
    """What one part of the soak has seen: figures, and everything that should not be."""

    name: str
    counts: dict[str, object] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)

    def expect(self, holds: bool, breach: str) -> None:
        """Note a breach unless something holds."""
        if not holds:
            self.breaches.append(breach)


@dataclass(slots=True)
class Ends:
    """How requests ended: ``endings`` by the request's place, of those that were answered; the others by number."""

    specs: Sequence[Spec]
    endings: dict[int, Ending] = field(default_factory=dict)
    left: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def num_ended(self) -> int:
        """Requests that ended in any way."""
        return len(self.endings) + self.left + len(self.lost) + len(self.wrong)

    def counts(self) -> Counter[str]:
        """Requests by how they ended."""
        found = Counter("good" if e.is_good else f"{e.status} {e.code}" for e in self.endings.values())
        found.update({"left": self.left, "lost": len(self.lost), "wrong": len(self.wrong)})
        return +found

    def good(self) -> dict[int, bytes]:
        """The content of each answer to what was asked."""
        return {index: ending.digest for index, ending in self.endings.items() if ending.is_good}

    def breaches(self) -> list[str]:
        """Of a load at a server that is well: whatever did not end as it was to."""
        found = [
            f"request {index} ({', '.join(self.specs[index].shapes)}): {what}"
            for index, ending in self.endings.items()
            for what in breaches_of(self.specs[index], ending)
        ]
        return found + self.lost + self.wrong


class Load:
    """Requests that clients take in turn. ``to_encoder`` gets those for vectors."""

    def __init__(
        self,
        server: Server,
        specs: Sequence[Spec],
        *,
        to_encoder: Server | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.ends = Ends(specs)
        self.is_over = False
        """Set it, and clients take nothing more."""
        self._servers = (server, to_encoder or server)
        self._tick = tick
        self._next = iter(enumerate(specs))

    async def run(self, num_clients: int) -> Ends:
        """Until all requests have ended."""
        await asyncio.gather(*(self._client() for _ in range(num_clients)))
        return self.ends

    async def _client(self) -> None:
        clients = [server.client() for server in self._servers]
        try:
            while not self.is_over and (numbered := next(self._next, None)) is not None:
                index, spec = numbered
                await self._ask(clients[spec.for_encoder], index, spec)
                self._tick()
        finally:
            for client in clients:
                client.close()

    async def _ask(self, client: Client, index: int, spec: Spec) -> None:
        ends, name = self.ends, f"request {index} ({', '.join(spec.shapes)})"
        try:
            answer = await client.ask(spec.as_bytes(), spec.leave)
            if answer is None:
                ends.left += 1
                return
            ending = ends.endings[index] = read(spec, answer)
        except Lost as error:
            ends.lost.append(f"{name}: {error}")
        except Wrong as error:
            ends.wrong.append(f"{name}: {error}")
        except (KeyError, TypeError, ValueError) as error:
            ends.wrong.append(f"{name}: an answer without its parts: {error!r}")
        else:
            if ending.status == 503:
                await asyncio.sleep(_PAUSE_S)


async def ask_all(server: Server, specs: Sequence[Spec], num_clients: int, **more: object) -> Ends:
    """A load from its begin to its end; ``more`` as ``Load``."""
    return await Load(server, specs, **more).run(num_clients)  # type: ignore[arg-type]  # as Load has it


def differences(before: dict[int, bytes], after: dict[int, bytes], what: Iterable[int]) -> list[str]:
    """Requests whose answers were good and are not the same."""
    return [f"request {i}: another answer than before" for i in what if before.get(i) != after.get(i)]
