from __future__ import annotations

import numpy as np
import pytest

from lepton_ai.backends.reference.philox import Words, philox4x32, uniform

ONES = 0xFFFFFFFF

# Known answers of the authors' library Random123 (kat_vectors, philox4x32 of 10 rounds).
KNOWN_ANSWERS: list[tuple[Words, tuple[int, int], Words]] = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_known_answers(counter: Words, key: tuple[int, int], expected: Words) -> None:
    assert philox4x32(counter, key) == expected


def test_uniform_takes_the_upper_24_bits_of_the_first_word() -> None:
    assert uniform(0, 0) == (0x6627E8D5 >> 8) / 2**24


def test_uniform_uses_all_64_bits_of_seed_and_draw() -> None:
    numbers = {uniform(seed, draw) for seed in (7, 7 + 2**32) for draw in (3, 3 + 2**32)}
    assert len(numbers) == 4
    first, *_ = philox4x32((3, 1, 0, 0), (7, 2))
    assert uniform(7 + 2 * 2**32, 3 + 2**32) == (first >> 8) * 2.0**-24


def test_uniform_is_uniform() -> None:
    numbers = np.array([uniform(1234, draw) for draw in range(4000)])
    assert numbers.min() >= 0 and numbers.max() < 1
    counts, _ = np.histogram(numbers, bins=10, range=(0, 1))
    # Chi-squared with 9 degrees of freedom stays below 27.9 with probability 0.999.
    assert ((counts - 400) ** 2 / 400).sum() < 27.9
