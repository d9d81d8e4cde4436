"""The long part: requests of all shapes, then the same ones alone; and what is left over."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from scripts.soak.load import Ends, Load, Report, ask_all, differences
from scripts.soak.memory import growth, max_growth_in_huge_pages, resident_bytes
from scripts.soak.requests import Spec
from scripts.soak.server import Server, get
from scripts.soak.setup import Setup

_SAMPLE_S = 0.5
_NUM_WARM = 48
_SPELLED_AT_ONCE = 10_000


class MemoryWatch:
    """Samples the memory of processes, in ``async with``."""

    def __init__(self, pids: dict[str, int]) -> None:
        self.samples: dict[str, list[int]] = {name: [] for name in pids}
        self._pids = pids

    async def _watch(self) -> None:
        while True:
            for name, pid in self._pids.items():
                self.samples[name].append(resident_bytes(pid))
            await asyncio.sleep(_SAMPLE_S)

    async def __aenter__(self) -> MemoryWatch:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


async def mixed(setup: Setup) -> Report:
    """``setup.num_requests`` from 64 clients to a server that must pre-empt, and to one with an encoder."""
    report = Report("mixed load")
    with Server(setup.arguments()) as server, Server(setup.encoder_arguments()) as encoder:
        servers = {"": server, "encoder's ": encoder}
        specs = setup.writer.mixed(setup.num_requests)
        await _spell_all_tokens(server, setup)
        warm = await ask_all(server, setup.writer.good(_NUM_WARM), setup.num_clients, to_encoder=encoder)
        report.breaches += warm.breaches()
        before = {name: await _settled_fds(each, None) for name, each in servers.items()}
        pids = {f"{name}{of}": pid for name, each in servers.items() for of, pid in each.pids().items()}
        began = time.monotonic()
        with setup.bar("mixed load", len(specs)) as tick:
            async with MemoryWatch(pids) as watch:
                ends = await Load(server, specs, to_encoder=encoder, tick=tick).run(setup.num_clients)
        report.counts |= {"requests": len(specs), **ends.counts(), "seconds": round(time.monotonic() - began, 1)}
        report.breaches += ends.breaches()
        report.expect(ends.num_ended == len(specs), f"{ends.num_ended} of {len(specs)} requests have ended")
        _count_shapes(report, ends)
        for name, each in servers.items():
            await _look_for_leaks(report, name, each, before[name])
        _look_at_memory(report, watch, is_long=setup.is_long)
        metrics = await server.metrics()
        report.counts["KV cache in use at the end"] = metrics["vllm:kv_cache_usage_perc"]
        report.counts["pre-emptions"] = int(metrics["vllm:num_preemptions_total"])
        report.expect(metrics["vllm:num_preemptions_total"] > 0, "nothing was pre-empted: there is too much memory")
        await _compare(report, setup, ends, servers=(server, encoder))
        for each in servers.values():
            report.breaches += [*each.breaches_of_log(), *each.stray]
    return report


async def _spell_all_tokens(server: Server, setup: Setup) -> None:
    """A server remembers how the tokens are spelled that it has met: in some megabytes, which would pass for a leak."""
    client = server.client()
    try:
        answer = await client.ask(get("/tokenizer_info"))
        assert answer is not None
        vocab_size = json.loads(answer.body)["vocab_size"]
        for first in range(0, vocab_size, _SPELLED_AT_ONCE):
            spec = setup.writer.spelling(range(first, min(first + _SPELLED_AT_ONCE, vocab_size)))
            answer = await client.ask(spec.as_bytes())
            assert answer is not None and answer.status == 200, answer
    finally:
        client.close()


async def _compare(report: Report, setup: Setup, ends: Ends, *, servers: tuple[Server, Server]) -> None:
    """Some of the requests again, each alone."""
    chosen = sorted(random.Random(setup.seed).sample(sorted(ends.good()), min(setup.num_alone, len(ends.good()))))
    specs: Sequence[Spec] = [ends.specs[index] for index in chosen]
    with setup.bar("alone", len(specs)) as tick:
        alone = await Load(servers[0], specs, to_encoder=servers[1], tick=tick).run(1)
    report.breaches += alone.breaches()
    digests = {chosen[place]: digest for place, digest in alone.good().items()}
    differ = differences(ends.good(), digests, chosen)
    report.counts |= {"compared alone": len(chosen), "different alone": len(differ)}
    report.breaches += differ


def _count_shapes(report: Report, ends: Ends) -> None:
    """How many of each shape were answered."""
    shapes = Counter(shape for index in ends.endings for shape in ends.specs[index].shapes[:1])
    shapes.update(shape for i, e in ends.endings.items() if e.is_good for shape in ends.specs[i].shapes[1:])
    report.counts |= {f"  {shape}": count for shape, count in sorted(shapes.items())}


async def _look_for_leaks(report: Report, name: str, server: Server, before: dict[str, int]) -> None:
    report.breaches += [f"{name or 'server: '}{what}" for what in await server.breaches_of_idleness()]
    after = await _settled_fds(server, before)
    for of, number in after.items():
        report.counts[f"{name}{of} files"] = f"{before[of]} before, {number} after"
        report.expect(number <= before[of], f"{name}{of}: {number} open files and sockets, {before[of]} before")


def _look_at_memory(report: Report, watch: MemoryWatch, *, is_long: bool) -> None:
    for name, samples in watch.samples.items():
        share = growth(samples) if len(samples) >= 8 else 0.0
        report.counts[f"{name} memory"] = f"{samples[-1] >> 20} MiB, {share:+.2%}"
        if is_long:
            most = max_growth_in_huge_pages(samples)
            report.expect(share < most, f"{name}: memory has grown by {share:.2%}, expected less than {most:.2%}")


async def _settled_fds(server: Server, wanted: dict[str, int] | None) -> dict[str, int]:
    """Open files, when the server has noticed that clients have left: no more than ``wanted``, or for a second."""
    end = time.monotonic() + (1.0 if wanted is None else 10.0)
    while True:
        with suppress(FileNotFoundError):  # closed while they were counted
            found = server.num_fds()
            if wanted is not None and all(found[name] <= wanted[name] for name in found):
                return found
            if time.monotonic() > end:
                return found
        await asyncio.sleep(0.05)
