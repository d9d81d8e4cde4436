"""Batches as engines take them that know rectangles only. Needs NumPy only, as workers do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def pad_batch(batch: Sequence[Sequence[int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Token ids ``[n, T]`` with zeros up to the longest sequence, and the mask ``[n, T]``: 1 where there is a token."""
    lengths = np.array([len(sequence) for sequence in batch])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = np.concatenate(batch)
    return ids, mask.astype(np.int64)
