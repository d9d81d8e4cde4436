from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from bench.divergence import DivergenceCache, MeasuredOn, measure_divergences
from tests.bench.fake_worker import FakeEngine

from lepton_ai.engine.quality import Divergence

SOURCE = MeasuredOn(FakeEngine.info, "model", "text", 8)
DIVERGENCE = Divergence(kl_divergence=0.5, kl_p999=1.0, top1_agreement=0.25)


class Constant:
    """The same two probabilities everywhere."""

    def __init__(self, first: float, piece_sizes: tuple[int, ...] = (2, 1)) -> None:
        self._row = np.log(np.array([first, 1 - first], np.float32))
        self._sizes = piece_sizes

    def logits(self, token_ids: list[int], /) -> Iterator[npt.NDArray[np.float32]]:
        return (np.tile(self._row, (size, 1)) for size in self._sizes)


def test_each_engine_is_compared_with_the_reference() -> None:
    near, far = measure_divergences([Constant(0.5), Constant(0.2)], Constant(0.5), [[1, 2, 3], [4, 5, 6]])
    assert near.kl_divergence == pytest.approx(0.0, abs=1e-7)
    assert near.top1_agreement == 1.0
    assert far.kl_divergence == pytest.approx(0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8), rel=1e-6)
    assert far.top1_agreement == 0.0


@pytest.mark.parametrize("sizes", [(3,), (1, 1, 1), (1, 2)])
def test_pieces_may_have_other_sizes(sizes: tuple[int, ...]) -> None:
    (other,) = measure_divergences([Constant(0.2, sizes)], Constant(0.5), [[1, 2, 3]])
    (same,) = measure_divergences([Constant(0.2)], Constant(0.5), [[1, 2, 3]])
    assert other == same


@pytest.mark.parametrize(("sizes", "message"), [((2,), "1 more rows of 2, got none"), ((2, 2), "no more rows")])
def test_rows_must_be_as_many_as_the_reference_has(sizes: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure_divergences([Constant(0.5, sizes)], Constant(0.5), [[1, 2, 3]])


def test_what_was_measured_is_found_again(tmp_path: Path) -> None:
    cache = DivergenceCache(tmp_path / "folder" / "divergence.json")
    assert cache.find(FakeEngine.info, SOURCE) is None
    cache.add(FakeEngine.info, SOURCE, DIVERGENCE)
    assert cache.find(FakeEngine.info, SOURCE) == DIVERGENCE


@pytest.mark.parametrize(
    "source", [dataclasses.replace(SOURCE, model_digest="other"), dataclasses.replace(SOURCE, text_digest="other")]
)
def test_another_file_or_text_is_another_measurement(tmp_path: Path, source: MeasuredOn) -> None:
    cache = DivergenceCache(tmp_path / "divergence.json")
    cache.add(FakeEngine.info, SOURCE, DIVERGENCE)
    assert cache.find(FakeEngine.info, source) is None
    assert cache.find(dataclasses.replace(FakeEngine.info, fingerprint="fake-2"), SOURCE) is None
