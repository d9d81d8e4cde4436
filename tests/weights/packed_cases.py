"""What tests of the packed cache share: a key, and files that are written and read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lepton_ai.weights.packed import PackedCache, PackedFile, PackedKey

KEY = PackedKey(digest="d" * 64, policy="auto", layout="avx2-1")


def fill(cache: PackedCache, key: PackedKey = KEY, *, value: int = 7, num_bytes: int = 1000) -> Path:
    """Write a file of one segment. Returns where it lies."""
    with cache.create(key, {"data": num_bytes}) as writer:
        writer.commit(np.full(writer.layout.payload_bytes, value, np.uint8))
    return cache.folder / f"{key.file_stem()}.pack"


def read(cache: PackedCache, key: PackedKey = KEY) -> dict[str, npt.NDArray[np.uint8]]:
    """The segments of ``key``, which must be there."""
    packed = cache.open(key)
    assert packed is not None
    with packed:
        payload = read_payload(packed)
        return {name: payload[s.offset : s.offset + s.size] for name, s in packed.layout.segments.items()}


def read_payload(packed: PackedFile) -> npt.NDArray[np.uint8]:
    """The payload of an open file."""
    layout = packed.layout
    return np.frombuffer(os.pread(packed.descriptor, layout.payload_bytes, layout.payload_offset), np.uint8)


def has(cache: PackedCache, key: PackedKey = KEY) -> bool:
    """Whether ``key`` can be opened."""
    packed = cache.open(key)
    if packed is not None:
        packed.close()
    return packed is not None


def files(cache: PackedCache) -> list[str]:
    """The suffixes of what is in the cache's folder."""
    return sorted(path.suffix for path in cache.folder.iterdir() if path.name != ".lock")
