"""The fast walk over strings equals the plain one, whatever the strings are."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_ai.weights.gguf_strings import string_offsets

PREFIX = b"\7\0\0\0\0\0\0\0\0abc"


def _encode(strings: Sequence[bytes]) -> bytes:
    return b"".join(struct.pack("<Q", len(text)) + text for text in strings)


def _expected(strings: Sequence[bytes], start: int) -> list[int]:
    return [start, *(start + np.cumsum([8 + len(text) for text in strings], dtype=np.int64)).tolist()]


def _check(strings: Sequence[bytes]) -> None:
    data = np.frombuffer(PREFIX + _encode(strings) + PREFIX, np.uint8)
    limit = len(data) - len(PREFIX)
    offsets = string_offsets(data, len(PREFIX), len(strings), limit)
    assert offsets.tolist() == _expected(strings, len(PREFIX))
    if strings:
        with pytest.raises(EOFError):
            string_offsets(data, len(PREFIX), len(strings), limit - 1)


def _random_strings(count: int, longest: int, alphabet: int, seed: int) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, alphabet, int(n), np.uint8).tobytes() for n in rng.integers(0, longest + 1, count)]


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 1024, 5000])
def test_counts_around_the_switches(count: int) -> None:
    _check([b"token%d" % i for i in range(count)])


@pytest.mark.parametrize("longest", [0, 1, 7, 300, 3000])
@pytest.mark.parametrize("alphabet", [1, 2, 256])
def test_lengths_and_zero_bytes(longest: int, alphabet: int) -> None:
    """Empty strings and zero bytes make false guesses, long strings end a run of true ones."""
    _check(_random_strings(3000, longest, alphabet, seed=longest + alphabet))


def test_a_string_longer_than_the_window() -> None:
    ordinary = [b"abc"] * 2000
    _check([*ordinary, b"\0" * 300_000, *ordinary, b"x" * 300_000, *ordinary])


def test_strings_that_look_like_length_fields() -> None:
    _check([struct.pack("<Q", i % 256) for i in range(4000)])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=12), min_size=1, max_size=6), st.integers(1, 600))
def test_repeated_patterns(pattern: list[bytes], repeats: int) -> None:
    _check(pattern * repeats)


def test_a_length_of_all_ones_does_not_wrap() -> None:
    data = np.frombuffer(_encode([b"a"] * 2000) + b"\xff" * 8, np.uint8)
    with pytest.raises(EOFError):
        string_offsets(data, 0, 2001, len(data))


def test_time_for_a_vocabulary_and_for_the_worst_case() -> None:
    vocabulary = np.frombuffer(_encode([b"token%d" % i for i in range(151_936)]), np.uint8)
    # No guess ever succeeds: each attempt must be paid for by a long plain run.
    hostile = np.frombuffer(_encode([b""] * 151_936), np.uint8)
    for data, bound_s in [(vocabulary, 0.05), (hostile, 0.25)]:
        started = time.process_time()
        string_offsets(data, 0, 151_936, len(data))
        assert time.process_time() - started < bound_s
