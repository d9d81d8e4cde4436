"""Biases of attention by bucket, laid out by distance: what the kernel adds to a tile of scores."""

from __future__ import annotations

import numpy as np

from lepton_ai.backends.base import Float32Array
from lepton_ai.graph.attrs import DistanceBuckets

_KEY_TILE = 64  # as in native/kernels/attention_tile.h


class AttentionBias:
    """``values`` ``[H, stride]``: head ``h`` adds ``values[h, origin + d]`` where a key stands ``d`` after the query.

    A row has every distance within ``max_model_len`` tokens, and room for a tile that begins at the last one.
    """

    def __init__(self, table: Float32Array, buckets: DistanceBuckets, max_model_len: int) -> None:
        self.origin = max_model_len - 1
        self._buckets = np.array([buckets.bucket(d) for d in range(-self.origin, max_model_len)])
        self.values = np.zeros((table.shape[1], len(self._buckets) + _KEY_TILE), np.float32)
        self.set_table(table)

    def set_table(self, table: Float32Array) -> None:
        """Take other biases ``[buckets, H]``."""
        self.values[:, : len(self._buckets)] = table[self._buckets].T

    @property
    def native(self) -> tuple[int, int, int]:
        """Address, stride and origin. Whoever keeps them keeps ``self`` alive."""
        return self.values.ctypes.data, self.values.shape[1], self.origin
