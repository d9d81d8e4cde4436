from __future__ import annotations

import numpy as np
from bench.peers.padding import pad_batch


def test_sequences_are_padded_to_the_longest_and_masked() -> None:
    ids, mask = pad_batch([[5], [6, 7, 8], [9, 0]])
    np.testing.assert_array_equal(ids, [[5, 0, 0], [6, 7, 8], [9, 0, 0]])
    np.testing.assert_array_equal(mask, [[1, 0, 0], [1, 1, 1], [1, 1, 0]])
    assert ids.dtype == mask.dtype == np.int64
