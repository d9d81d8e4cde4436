"""The packed cache among models and processes that share it: what makes room for what, and who waits for whom."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from tests.weights.packed_cases import KEY, files, fill, has, read, read_payload

from lepton_ai.errors import StorageError
from lepton_ai.weights.packed import PackedCache, PackedKey


def _keys(count: int) -> list[PackedKey]:
    return [dataclasses.replace(KEY, rank=rank) for rank in range(count)]


def test_the_least_recently_used_files_make_room(tmp_path: Path) -> None:
    cache = PackedCache(tmp_path, max_bytes=35_000)
    keys = _keys(4)
    for age, key in enumerate(keys[:3]):
        os.utime(fill(cache, key, num_bytes=10_000), ns=(10**18 + age, 10**18 + age))
    assert has(cache, keys[0])  # used now: younger than the others
    fill(cache, keys[3], num_bytes=10_000)
    assert [has(cache, key) for key in keys] == [True, False, True, True]
    fill(cache, keys[1], num_bytes=30_000)
    assert [has(cache, key) for key in keys] == [False, True, False, False]


def test_a_model_larger_than_the_cache(tmp_path: Path) -> None:
    cache = PackedCache(tmp_path, max_bytes=10_000)
    path = fill(cache)
    with pytest.raises(StorageError, match="expected a model of at most 10000 bytes, got 10"):
        cache.create(dataclasses.replace(KEY, rank=1), {"data": 10_000})
    assert path.exists()


def test_files_under_construction_are_not_evicted(tmp_path: Path) -> None:
    cache = PackedCache(tmp_path, max_bytes=15_000)
    first, second = _keys(2)
    with cache.create(first, {"data": 8_000}) as writer:
        with pytest.raises(StorageError, match=r"cannot write the packed cache: .* being written by other processes"):
            cache.create(second, {"data": 8_000})
        writer.commit(np.full(writer.layout.payload_bytes, 3, np.uint8))
    assert (read(cache, first)["data"] == 3).all()


def test_two_writers_of_one_key(cache: PackedCache) -> None:
    with cache.create(KEY, {"data": 128}) as first, cache.create(KEY, {"data": 128}) as second:
        first.commit(np.full(128, 5, np.uint8))
        early = cache.open(KEY)
        second.commit(np.full(128, 6, np.uint8))
    assert early is not None and files(cache) == [".pack"]
    with early:
        payload = read_payload(early)
    assert (payload == 5).all() and (read(cache)["data"] == 6).all()


def test_many_threads(cache: PackedCache) -> None:
    errors: list[Exception] = []

    def pack(value: int) -> None:
        try:
            for key in _keys(5):
                if not has(cache, key):
                    fill(cache, key, value=key.rank, num_bytes=100_000)
                if not (read(cache, key)["data"] == key.rank).all():
                    raise AssertionError(f"{value} found a partial file of {key.rank}")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=pack, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and files(cache) == [".pack"] * 5


def test_what_a_killed_writer_left_is_swept(cache: PackedCache) -> None:
    script = """
        import os, signal, sys
        from pathlib import Path
        from lepton_ai.weights.packed import PackedCache, PackedKey
        writer = PackedCache(Path(sys.argv[1])).create(PackedKey("k", "auto", "x"), {"data": 1000})
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(cache.folder.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, env=environment, check=False).returncode == -9
    assert files(cache) == [".unfinished"]
    with cache.create(KEY, {"data": 1000}):
        assert files(cache) == [".unfinished"]  # only the new one
    assert files(cache) == []
