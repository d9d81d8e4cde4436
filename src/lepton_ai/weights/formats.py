"""Storage types of weights: block layouts and bit-exact dequantisation to f32."""

from __future__ import annotations

import enum


class WeightType(enum.Enum):
    """Element type of a stored tensor; values are the names that GGUF tools print."""

    F32 = "F32"
    F16 = "F16"
    Q4_0 = "Q4_0"
    Q4_1 = "Q4_1"
    Q5_0 = "Q5_0"
    Q8_0 = "Q8_0"
    Q4_K = "Q4_K"
    Q5_K = "Q5_K"
    Q6_K = "Q6_K"
