"""Mutated files, and the check that each is read or refused. ``scripts/fuzz.py`` runs it.

Input ``index`` of ``seed`` is always the same bytes, so one number reproduces a failure.
"""

from __future__ import annotations

import random
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

TIME_LIMIT_S: Final = 1.0
"""CPU time that one input may take."""

_BOUNDARIES = [0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 31, 32, 33, 63, 64, 65, 255, 256, 1 << 16, 1 << 22, 1 << 31, 1 << 32]
EXTREMES: Final = (
    *(*_BOUNDARIES, (1 << 31) - 1, (1 << 32) - 1, 1 << 61, 1 << 62),
    *((1 << 63) - 1, 1 << 63, (1 << 64) - 8),
)
"""Numbers at which sizes, counts and offsets go wrong."""


class Target(Protocol):
    """A reader under test. It holds small complete files, the bases of all inputs."""

    def bases(self) -> list[bytes]:
        """The files before mutation, all of them good."""
        ...

    def mutated(self, rng: random.Random) -> bytes:
        """A base file with some changes."""
        ...

    def read(self, path: Path) -> bool:
        """Read everything there is in the file; whether all of it was good. Only LeptonErrors are expected."""
        ...


def make_target(name: str) -> Target:
    """The reader called ``name``."""
    from tests.text.tokenizer_fuzzer import FolderTarget, GGUFTokenizerTarget
    from tests.weights.gguf_fuzzer import GGUFTarget
    from tests.weights.safetensors_fuzzer import SafetensorsTarget

    targets: dict[str, Callable[[], Target]] = {
        "gguf": GGUFTarget,
        "safetensors": SafetensorsTarget,
        "tokenizer": FolderTarget,
        "gguf-tokenizer": GGUFTokenizerTarget,
    }
    return targets[name]()


def make_input(target: Target, seed: int, index: int) -> bytes:
    """Input ``index`` of ``seed``."""
    return target.mutated(random.Random(f"{seed}:{index}"))


def run(
    target: Target, folder: Path, *, seed: int, first: int, count: int, on_input: Callable[[int, bool | None], None]
) -> None:
    """Check inputs ``first ... first + count - 1``; ``on_input(index, None)`` before, ``(index, is_good)`` after each.

    Any exception but a LeptonError passes; an input that takes too long ends the process by SIGPROF.
    """
    path = folder / "input"
    for index in range(first, first + count):
        on_input(index, None)
        path.unlink(missing_ok=True)  # some file systems write a file that is truncated to the disk at once
        path.write_bytes(make_input(target, seed, index))
        signal.setitimer(signal.ITIMER_PROF, TIME_LIMIT_S)
        is_good = target.read(path)
        signal.setitimer(signal.ITIMER_PROF, 0)
        on_input(index, is_good)


def mutate_bytes(data: bytearray, rng: random.Random) -> None:
    """One change that knows nothing of the format."""
    rng.choice(_MUTATIONS)(data, rng)


def _slice(data: bytearray, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice([1, 4, 8, 16, 64, 512]))


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _remove(data: bytearray, rng: random.Random) -> None:
    start, end = _slice(data, rng)
    del data[start:end]


def _repeat(data: bytearray, rng: random.Random) -> None:
    start, end = _slice(data, rng)
    data[start:start] = data[start:end] * rng.choice([1, 2, 50])


def _copy(data: bytearray, rng: random.Random) -> None:
    (start, end), (target, _) = _slice(data, rng), _slice(data, rng)
    data[target : target + end - start] = data[start:end]


def _number(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    data[start : start + 8] = struct.pack("<Q", rng.choice(EXTREMES) % (1 << 64))


def _zeros(data: bytearray, rng: random.Random) -> None:
    start, _ = _slice(data, rng)
    data[start:start] = bytes(rng.choice([1, 8, 4096, 65536]))


_MUTATIONS: Final[tuple[Callable[[bytearray, random.Random], None], ...]] = (
    _flip,
    _flip,
    _truncate,
    _remove,
    _repeat,
    _copy,
    _number,
    _zeros,
)
