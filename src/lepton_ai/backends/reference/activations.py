"""Activation functions in f64, by formulas that keep their relative accuracy in both tails."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from lepton_ai.backends.base import Float32Array
from lepton_ai.graph.attrs import Activation

Float64Array = npt.NDArray[np.float64]


def activated(x: Float32Array, kind: Activation) -> Float64Array:
    """``kind(x)`` for each value, not yet rounded to f32."""
    wide = x.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        match kind:
            case Activation.SILU:
                return wide * _sigmoid(wide)
            case Activation.GELU:
                return wide * _normal_cdf(wide)
            case Activation.GELU_TANH:
                # (1 + tanh(u)) / 2 is the logistic function of 2 u.
                return wide * _sigmoid(2 * math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3))
            case Activation.RELU:
                return np.maximum(wide, 0)
            case Activation.TANH:
                return np.tanh(wide)


def _sigmoid(x: Float64Array) -> Float64Array:
    return 1 / (1 + np.exp(-x))


def _normal_cdf(x: Float64Array) -> Float64Array:
    """``(1 + erf(x / sqrt(2))) / 2``, as half the complement: it does not cancel where x is negative."""
    halves = [math.erfc(-value / math.sqrt(2)) / 2 for value in x.reshape(-1).tolist()]
    return np.array(halves, np.float64).reshape(x.shape)
