"""Mutated GGUF files, and the check that each is read or refused. ``scripts/fuzz_gguf.py`` runs it.

Input ``index`` of ``seed`` is always the same bytes, so one number reproduces a failure.
"""

from __future__ import annotations

import random
import signal
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tests.weights.blocks import random_bytes
from tests.weights.gguf_writer import EncodedGGUF, Tensor, Typed, Value, encode_gguf

from lepton_ai.errors import LeptonError
from lepton_ai.weights.checkpoint import open_checkpoint
from lepton_ai.weights.formats import WeightType, dequantize
from lepton_ai.weights.gguf import GGUFFile
from lepton_ai.weights.gguf_values import ValueType

TIME_LIMIT_S = 1.0
"""CPU time that one input may take."""

_BOUNDARIES = [0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 31, 32, 33, 63, 64, 65, 255, 256, 1 << 16, 1 << 22, 1 << 31, 1 << 32]
_EXTREMES = [*_BOUNDARIES, (1 << 31) - 1, (1 << 32) - 1, 1 << 61, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 8]

Mutation = Callable[[bytearray, random.Random], None]


def base_files() -> list[EncodedGGUF]:
    """Small complete files that together use every value type, tensor type and number of dimensions."""
    rng = np.random.default_rng(0)
    number_types = [t for t in ValueType if t not in (ValueType.STRING, ValueType.ARRAY)]
    numbers: dict[str, Value] = {f"scalar.{t.name}": Typed(t, 1) for t in number_types}
    numbers |= {f"array.{t.name}": Typed(t, [1, 0, 1]) for t in number_types}
    tensors: dict[str, Tensor] = {}
    for index, weight_type in enumerate(WeightType):
        shape = (1, 2, 2, weight_type.block_elements)[3 - index % 4 :]
        tensors[f"blk.{index}.weight"] = (weight_type, shape, random_bytes(weight_type, shape, rng))
    tokenizer: dict[str, Value] = {
        "general.architecture": "llama",
        "general.alignment": 64,
        "llama.block_count": 2,
        "tokenizer.ggml.tokens": [f"token{i}" for i in range(600)],
        "tokenizer.ggml.merges": ["a b", "", "写 写"],
        "nested": [[["x"], []], [["y", "z"]]],
    }
    small: Tensor = (WeightType.F32, (3,), bytes(12))
    return [
        encode_gguf(numbers, tensors),
        encode_gguf(tokenizer, {"output_norm.weight": small, "rope.weight": small}, version=2, alignment=64),
    ]


def mutated(bases: list[EncodedGGUF], seed: int, index: int) -> bytes:
    """Input ``index`` of ``seed``: a base file with one to four changes, in numbers of the header first."""
    rng = random.Random(f"{seed}:{index}")
    base = rng.choice(bases)
    data = bytearray(base.data)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        _change_number(data, rng.choice(_places(base, rng)), rng)
    if rng.random() < 0.05:
        _nest(data, rng, rng.choice([place for name, (place, _) in base.fields.items() if "element_type" in name]))
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2])):
        rng.choice(_MUTATIONS)(data, rng)
    return bytes(data)


def read(path: Path) -> bool:
    """Read everything there is in the file; whether all of it was good. Only LeptonErrors are expected."""
    is_good = True
    try:
        checkpoint = open_checkpoint(path)
    except LeptonError:
        return False
    with checkpoint:
        for key in checkpoint.metadata:
            try:
                checkpoint.metadata[key]
            except LeptonError:
                is_good = False
            _use_getters(checkpoint, key)
        for name in checkpoint.names():
            tensor = checkpoint.get(name)
            dequantize(tensor.data, tensor.type, tensor.shape)
    return is_good


def run(folder: Path, *, seed: int, first: int, count: int, on_input: Callable[[int, bool | None], None]) -> None:
    """Check inputs ``first ... first + count - 1``; ``on_input(index, None)`` before, ``(index, is_good)`` after each.

    Any exception but a LeptonError passes; an input that takes too long ends the process by SIGPROF.
    """
    bases, path = base_files(), folder / "input.gguf"
    for index in range(first, first + count):
        on_input(index, None)
        path.write_bytes(mutated(bases, seed, index))
        signal.setitimer(signal.ITIMER_PROF, TIME_LIMIT_S)
        is_good = read(path)
        signal.setitimer(signal.ITIMER_PROF, 0)
        on_input(index, is_good)


def _use_getters(checkpoint: GGUFFile, key: str) -> None:
    metadata = checkpoint.metadata
    getters: tuple[Callable[[str], object], ...] = (
        metadata.get_int,
        metadata.get_float,
        metadata.get_bool,
        metadata.get_str,
        metadata.get_str_array,
        metadata.get_int_array,
        metadata.get_float_array,
        metadata.array_length,
    )
    for getter in getters:
        try:
            getter(key)
        except LeptonError:
            continue


def _places(base: EncodedGGUF, rng: random.Random) -> list[tuple[int, int]]:
    """Numbers to change: mostly not the lengths within the vocabulary, of which there are hundreds."""
    is_any = rng.random() < 0.15
    return [place for name, place in base.fields.items() if is_any or ": length of" not in name]


def _change_number(data: bytearray, place: tuple[int, int], rng: random.Random) -> None:
    offset, size = place
    value = int.from_bytes(data[offset : offset + size], "little")
    chosen = rng.choice([*_EXTREMES, value + 1, value - 1, value * 2, len(data), rng.getrandbits(64)])
    data[offset : offset + size] = (chosen % (1 << 8 * size)).to_bytes(size, "little")


def _nest(data: bytearray, rng: random.Random, start: int) -> None:
    data[start:start] = struct.pack("<IQ", ValueType.ARRAY, 1) * rng.choice([1, 2, 3, 5, 5000])


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
    data[start : start + 8] = struct.pack("<Q", rng.choice(_EXTREMES) % (1 << 64))


def _zeros(data: bytearray, rng: random.Random) -> None:
    start, _ = _slice(data, rng)
    data[start:start] = bytes(rng.choice([1, 8, 4096, 65536]))


_MUTATIONS: tuple[Mutation, ...] = (_flip, _flip, _truncate, _remove, _repeat, _copy, _number, _zeros)
