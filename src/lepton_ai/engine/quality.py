"""How good a model's predictions are, and how far they lie from another's: sums over pieces of logits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lepton_ai.backends.base import Float32Array, Int32Array

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Divergence:
    """Of a model from a reference, over the same positions. Divergences are KL(reference || model) in nats.

    ``kl_p999`` is the 99.9th percentile over positions; ``top1_agreement`` the share of positions at which both find
    the same token most likely.
    """

    kl_divergence: float
    kl_p999: float
    top1_agreement: float


class PerplexityMeter:
    """Collects log-probabilities of the tokens of a text."""

    def __init__(self) -> None:
        self.num_tokens = 0
        self._sum = 0.0

    def add(self, logprobs: npt.NDArray[np.floating]) -> None:
        """Take in natural log-probabilities."""
        self.num_tokens += len(logprobs)
        self._sum += float(np.sum(logprobs, dtype=np.float64))

    @property
    def perplexity(self) -> float:
        """``exp`` of the mean negative log-probability. NaN without tokens."""
        return math.exp(-self._sum / self.num_tokens) if self.num_tokens else math.nan


class DivergenceMeter:
    """Compares two models piece by piece; keeps one number a position."""

    def __init__(self) -> None:
        self._divergences: list[Float64Array] = []
        self._num_agreeing = 0

    def add(self, logprobs: Float64Array, reference: Float64Array) -> None:
        """Take in log-probabilities ``[n, V]`` of the model and of the reference."""
        self._divergences.append(np.sum(np.exp(reference) * (reference - logprobs), axis=1))
        self._num_agreeing += int(np.sum(logprobs.argmax(axis=1) == reference.argmax(axis=1)))

    def result(self) -> Divergence:
        """Over all that came. At least one position must have come."""
        values = np.concatenate(self._divergences)
        return Divergence(
            kl_divergence=float(values.mean()),
            kl_p999=float(np.quantile(values, 0.999)),
            top1_agreement=self._num_agreeing / len(values),
        )


def log_softmax(logits: Float32Array) -> Float64Array:
    """Natural log-probabilities of each row, in f64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def of_targets(logprobs: Float64Array, targets: Int32Array) -> Float64Array:
    """The entry of each row that ``targets`` names."""
    return np.take_along_axis(logprobs, targets[:, None].astype(np.int64), axis=1)[:, 0]
