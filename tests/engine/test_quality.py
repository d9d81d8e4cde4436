from __future__ import annotations

import math

import numpy as np
import pytest

from lepton_ai.engine.quality import DivergenceMeter, PerplexityMeter, log_softmax, of_targets


def test_log_softmax_of_large_and_equal_logits() -> None:
    rows = log_softmax(np.array([[1000.0, 1000.0], [0.0, math.log(3)]], np.float32))
    assert np.exp(rows).tolist() == [pytest.approx([0.5, 0.5]), pytest.approx([0.25, 0.75])]


def test_of_targets() -> None:
    assert of_targets(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1, 0], np.int32)).tolist() == [2.0, 3.0]


def test_perplexity() -> None:
    meter = PerplexityMeter()
    assert math.isnan(meter.perplexity)
    meter.add(np.log([0.5, 0.25]))
    meter.add(np.log([0.5]))
    assert meter.perplexity == pytest.approx(16 ** (1 / 3)) and meter.num_tokens == 3


def test_divergence_is_taken_under_the_reference() -> None:
    model, reference = np.log([[0.5, 0.5], [0.1, 0.9]]), np.log([[0.75, 0.25], [0.1, 0.9]])
    meter = DivergenceMeter()
    for row in range(2):
        meter.add(model[row : row + 1], reference[row : row + 1])
    result = meter.result()
    first = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert result.kl_divergence == pytest.approx(first / 2)
    assert result.kl_p999 == pytest.approx(first * 0.999)
    assert result.top1_agreement == 1.0, "ties go to the lowest id"
