"""Philox4x32-10, a counter-based random generator.

Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

Words = tuple[int, int, int, int]

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF


def philox4x32(counter: Words, key: tuple[int, int], num_rounds: int = 10) -> Words:
    """Four 32-bit words for a counter and a key of 32-bit words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(num_rounds):
        product0, product1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            product1 >> 32 ^ c1 ^ k0,
            product1 & _MASK,
            product0 >> 32 ^ c3 ^ k1,
            product0 & _MASK,
        )
        k0, k1 = k0 + _KEY_STEPS[0] & _MASK, k1 + _KEY_STEPS[1] & _MASK
    return c0, c1, c2, c3


def uniform(seed: int, draw: int) -> float:
    """A number in [0, 1) for a 64-bit seed and draw: the first word's upper 24 bits, times 2^-24.

    The key is (low, high) word of ``seed``, the counter (low, high) word of ``draw``, 0, 0.
    """
    first, *_ = philox4x32((draw & _MASK, draw >> 32, 0, 0), (seed & _MASK, seed >> 32))
    return float(first >> 8) * 2.0**-24
