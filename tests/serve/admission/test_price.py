"""What requests cost: exact numbers."""

from __future__ import annotations

from typing import Any

import pytest

from lepton_ai import Constraint, SamplingParams
from lepton_ai.serve.admission.price import least_price, price, price_of_text


@pytest.mark.parametrize(
    ("params", "tokens"),
    [
        ({"max_tokens": 50}, 100 + 50),
        ({"max_tokens": 50, "n": 3}, 100 + 3 * 50),
        ({"max_tokens": 50, "n": 2, "best_of": 5}, 100 + 5 * 50),
        ({}, 1000),
        ({"n": 2}, 100 + 2 * 900),
        ({"max_tokens": 5000}, 1000),
        ({"max_tokens": 80, "logprobs": 0}, 100 + 80 + 5),
        ({"max_tokens": 0, "prompt_logprobs": 1}, 200),
        ({"max_tokens": 80, "constraint": Constraint.regex("a" * 2048)}, 100 + 2 + 80 + 10),
        ({"max_tokens": 80, "n": 2, "logprobs": 3, "constraint": Constraint.regex("a")}, 100 + 2 * (80 + 5 + 10)),
    ],
)
def test_completions(params: dict[str, Any], tokens: int) -> None:
    assert price(100, SamplingParams(**params), max_model_len=1000) == tokens


def test_a_prompt_that_is_too_long_has_a_price_too() -> None:
    assert price(2000, SamplingParams(), max_model_len=1000) == 2000


def test_texts() -> None:
    assert [price_of_text(n) for n in (0, 3, 4, 4000)] == [1, 1, 2, 1001]
    assert [least_price(n) for n in (0, 15, 16, 1 << 22)] == [0, 0, 1, 1 << 18]
