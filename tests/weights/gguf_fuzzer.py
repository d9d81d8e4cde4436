"""Mutated GGUF files, and the check that each is read or refused."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tests.weights.blocks import random_bytes
from tests.weights.fuzzing import EXTREMES, mutate_bytes
from tests.weights.gguf_writer import TENSOR_TYPE_TAGS, EncodedGGUF, Tensor, Typed, Value, encode_gguf

from lepton_ai.errors import LeptonError
from lepton_ai.weights.checkpoint import GGUFCheckpoint, open_gguf
from lepton_ai.weights.formats import WeightType, dequantize
from lepton_ai.weights.gguf_values import ValueType


class GGUFTarget:
    """The GGUF reader; it implements ``fuzzing.Target``."""

    def __init__(self) -> None:
        self._bases = _base_files()

    def bases(self) -> list[bytes]:
        """Files that together use every value type, tensor type and number of dimensions."""
        return [bytes(base.data) for base in self._bases]

    def mutated(self, rng: random.Random) -> bytes:
        """A base file with one to four changes, in numbers of the header first."""
        base = rng.choice(self._bases)
        data = bytearray(base.data)
        for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
            _change_number(data, rng.choice(_places(base, rng)), rng)
        if rng.random() < 0.05:
            _nest(data, rng, rng.choice([place for name, (place, _) in base.fields.items() if "element_type" in name]))
        for _ in range(rng.choice([0, 0, 0, 1, 1, 2])):
            mutate_bytes(data, rng)
        return bytes(data)

    def read(self, path: Path) -> bool:
        """See ``Target.read``."""
        is_good = True
        try:
            checkpoint = open_gguf(path)
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


def _base_files() -> list[EncodedGGUF]:
    rng = np.random.default_rng(0)
    number_types = [t for t in ValueType if t not in (ValueType.STRING, ValueType.ARRAY)]
    numbers: dict[str, Value] = {f"scalar.{t.name}": Typed(t, 1) for t in number_types}
    numbers |= {f"array.{t.name}": Typed(t, [1, 0, 1]) for t in number_types}
    tensors: dict[str, Tensor] = {}
    for index, weight_type in enumerate(TENSOR_TYPE_TAGS):
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


def _use_getters(checkpoint: GGUFCheckpoint, key: str) -> None:
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
    chosen = rng.choice([*EXTREMES, value + 1, value - 1, value * 2, len(data), rng.getrandbits(64)])
    data[offset : offset + size] = (chosen % (1 << 8 * size)).to_bytes(size, "little")


def _nest(data: bytearray, rng: random.Random, start: int) -> None:
    data[start:start] = struct.pack("<IQ", ValueType.ARRAY, 1) * rng.choice([1, 2, 3, 5, 5000])
