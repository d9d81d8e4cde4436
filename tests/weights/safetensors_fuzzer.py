"""Mutated safetensors files, and the check that each is read or refused."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.weights.fuzzing import EXTREMES, mutate_bytes
from tests.weights.safetensors_writer import encode_safetensors

from lepton_ai.errors import LeptonError
from lepton_ai.weights.formats import dequantize
from lepton_ai.weights.safetensors import SafetensorsFile

Header = dict[str, object]


class SafetensorsTarget:
    """The safetensors reader; it implements ``fuzzing.Target``."""

    def __init__(self) -> None:
        self._header: Header = {
            "__metadata__": {"format": "pt"},
            "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
            "b.weight": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
            "b.ids": {"dtype": "I64", "shape": [1], "data_offsets": [32, 40]},
            "\u5199": {"dtype": "F16", "shape": [], "data_offsets": [40, 42]},
            "empty": {"dtype": "F32", "shape": [0, 5], "data_offsets": [42, 42]},
        }
        self._payload = bytes(range(42))

    def bases(self) -> list[bytes]:
        """One file with all kinds of tensors."""
        return [encode_safetensors(self._header, self._payload)]

    def mutated(self, rng: random.Random) -> bytes:
        """The base with changes of values in its header, of the header's text, and of any bytes."""
        header: Header = json.loads(json.dumps(self._header))
        for _ in range(rng.choice([0, 1, 1, 2])):
            rng.choice(_HEADER_MUTATIONS)(header, rng)
        text = json.dumps(header, ensure_ascii=rng.random() < 0.5)
        if rng.random() < 0.1:
            text = text[:-1] + rng.choice([', "a": {}}', ', "n": NaN}', "}}", "[" * 20_000, " " * 30, "\0"])
        data = bytearray(encode_safetensors(text, self._payload))
        if rng.random() < 0.2:
            data[:8] = (rng.choice([*EXTREMES, len(text) + rng.randrange(-9, 9)]) % (1 << 64)).to_bytes(8, "little")
        for _ in range(rng.choice([0, 0, 1, 2])):
            mutate_bytes(data, rng)
        return bytes(data)

    def read(self, path: Path) -> bool:
        """See ``Target.read``."""
        try:
            file = SafetensorsFile(path)
        except LeptonError:
            return False
        with file:
            for name in file.names():
                try:
                    tensor = file.get(name)
                except LeptonError:
                    continue  # of a type that is no weight's
                dequantize(tensor.data, tensor.type, tensor.shape)
        return True


def _entry(header: Header, rng: random.Random) -> dict[str, object]:
    entries = [value for value in header.values() if isinstance(value, dict)]
    return rng.choice(entries) if entries else {}


def _change_offset(header: Header, rng: random.Random) -> None:
    entry = _entry(header, rng)
    number = rng.choice([*EXTREMES, -1, 0.5, 1e300, True, None, "8", rng.randrange(50)])
    entry["data_offsets"] = rng.choice([[0, number], [number, 24], [number], [number, number], number])


def _change_shape(header: Header, rng: random.Random) -> None:
    number = rng.choice([*EXTREMES, -1, 1.5, None])
    _entry(header, rng)["shape"] = rng.choice([[number], [number] * 9, [number, 0], [2, 3, 1], number, {}])


def _change_dtype(header: Header, rng: random.Random) -> None:
    _entry(header, rng)["dtype"] = rng.choice(["F16", "BF16", "F64", "F4", "Q4_0", "", 3, None, ["F32"], "F32\0"])


def _drop(header: Header, rng: random.Random) -> None:
    if header:
        del header[rng.choice(sorted(header))]


def _drop_field(header: Header, rng: random.Random) -> None:
    entry = _entry(header, rng)
    if entry:
        del entry[rng.choice(sorted(entry))]


def _add(header: Header, rng: random.Random) -> None:
    value: object = rng.choice([3, [], {}, None, "x", {"dtype": "F32", "shape": [1], "data_offsets": [38, 42]}])
    header[rng.choice(["", "c", "__metadata__", "x" * 3000])] = value


_HEADER_MUTATIONS: Final[tuple[Callable[[Header, random.Random], None], ...]] = (
    _change_offset,
    _change_shape,
    _change_dtype,
    _drop,
    _drop_field,
    _add,
)
