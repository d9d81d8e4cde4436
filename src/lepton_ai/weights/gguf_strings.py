"""Fast walks over arrays of length-prefixed strings: a vocabulary of 150,000 tokens costs a few milliseconds.

A string is a little-endian u64 length and that many bytes, so where one starts is known only from the one before. The
walk guesses all starts of a window at once (seven zero bytes after any byte: a length below 256) and then keeps the
run whose every length leads exactly to the next guess. That chain is a proof, not a heuristic: whatever the bytes are,
the result equals the one of the plain walk, which is used where guesses fail.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
import numpy.typing as npt

LENGTH_BYTES: Final = 8
_WINDOW_BYTES: Final = 1 << 17
_PLAIN_RUN: Final = 1024
_WORTHWHILE_RUN: Final = 256


def string_offsets(data: npt.NDArray[np.uint8], start: int, count: int, limit: int) -> npt.NDArray[np.int64]:
    """Offsets of ``count`` consecutive strings and of the byte after the last, ``[count + 1]``.

    ``data`` is the whole file, ``start`` the first length field. Raises EOFError when the strings would pass ``limit``;
    memory is 8 bytes a string, so the caller bounds ``count`` first.
    """
    offsets = np.empty(count + 1, np.int64)
    offsets[0] = start
    done = 0
    while done < count:
        guessed = _guess_run(data, int(offsets[done]), limit) if count - done > _WORTHWHILE_RUN else offsets[:0]
        taken = min(len(guessed), count - done)
        offsets[done + 1 : done + 1 + taken] = guessed[:taken]
        done += taken
        if taken < _WORTHWHILE_RUN:
            steps = min(_PLAIN_RUN, count - done)
            offsets[done + 1 : done + 1 + steps] = _plain_run(data, int(offsets[done]), steps, limit)
            done += steps
    return offsets


def _plain_run(data: npt.NDArray[np.uint8], position: int, steps: int, limit: int) -> list[int]:
    """Ends of the next ``steps`` strings, one after the other."""
    read_length = struct.Struct("<Q").unpack_from
    buffer = data.data
    ends = []
    for _ in range(steps):
        if position + LENGTH_BYTES > limit:
            raise EOFError
        position += LENGTH_BYTES + read_length(buffer, position)[0]
        if position > limit:
            raise EOFError
        ends.append(position)
    return ends


def _guess_run(data: npt.NDArray[np.uint8], position: int, limit: int) -> npt.NDArray[np.int64]:
    """Ends of strings from ``position`` on, as many as one window proves; empty when the first is not proven."""
    window = data[position : min(position + _WINDOW_BYTES, limit)]
    if len(window) < LENGTH_BYTES:
        return np.empty(0, np.int64)
    zero = window == 0
    pairs = zero[:-1] & zero[1:]
    fours = pairs[:-2] & pairs[2:]
    sevens = fours[:-3] & fours[3:]
    starts = np.flatnonzero(sevens[1:])
    if len(starts) == 0 or starts[0] != 0:
        return np.empty(0, np.int64)
    ends = starts + LENGTH_BYTES + window[starts]
    broken = np.flatnonzero(ends[:-1] != starts[1:])
    proven = ends[: broken[0] + 1] if len(broken) else ends
    return proven[proven <= limit - position] + position
