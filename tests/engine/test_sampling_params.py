from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.errors import InvalidRequest


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", -0.1),
        ("temperature", 1e-9),
        ("temperature", True),
        ("temperature", "0.5"),
        ("top_k", -1),
        ("top_k", 1.0),
        ("top_k", True),
        ("top_k", 2**31),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("min_p", -0.01),
        ("min_p", math.nan),
        ("repetition_penalty", 0),
        ("repetition_penalty", -math.inf),
        ("presence_penalty", 2.1),
        ("frequency_penalty", -2.1),
        ("seed", -1),
        ("seed", 2**64),
        ("seed", 1.5),
        ("stop", ""),
        ("stop", ["a", ""]),
        ("stop", [1]),
        ("stop", 3),
        ("stop", ["a"] * 65),
        ("stop", "a" * 1025),
        ("stop_token_ids", [-1]),
        ("stop_token_ids", [True]),
        ("stop_token_ids", "12"),
        ("stop_token_ids", 12),
        ("stop_token_ids", range(1025)),
        ("max_tokens", 0),
        ("max_tokens", False),
        ("logprobs", -1),
        ("logprobs", 21),
        ("prompt_logprobs", -1),
        ("prompt_logprobs", 21),
        ("prompt_logprobs", True),
        ("prompt_logprobs", 1.0),
        ("ignore_eos", 1),
        ("n", 0),
        ("n", 65),
        ("n", True),
        ("best_of", 0),
        ("best_of", 65),
        ("min_tokens", -1),
        ("min_tokens", 1.0),
        ("logit_bias", [(3, 1.0)]),
        ("logit_bias", {-1: 1.0}),
        ("logit_bias", {"3": 1.0}),
        ("logit_bias", {3: 100.5}),
        ("logit_bias", {3: math.nan}),
        ("logit_bias", {3: True}),
        ("logit_bias", dict.fromkeys(range(301), 1.0)),
    ],
)
def test_bad_value_is_refused_by_name(name: str, value: object) -> None:
    arguments: dict[str, Any] = {name: value}
    with pytest.raises(InvalidRequest) as caught:
        SamplingParams(**arguments)
    assert caught.value.param == name
    assert name in caught.value.message and "expected" in caught.value.message


def test_no_tokens_can_be_asked_for_where_a_prompt_is_scored() -> None:
    assert SamplingParams(prompt_logprobs=0, max_tokens=0).max_tokens == 0
    with pytest.raises(InvalidRequest, match="max_tokens: expected an integer in"):
        SamplingParams(prompt_logprobs=0, max_tokens=-1)
    with pytest.raises(InvalidRequest, match="min_tokens: expected at most max_tokens, 0, got 1"):
        SamplingParams(prompt_logprobs=0, max_tokens=0, min_tokens=1)


def test_min_tokens_is_at_most_max_tokens() -> None:
    assert SamplingParams(min_tokens=4, max_tokens=4).min_tokens == 4
    with pytest.raises(InvalidRequest, match="min_tokens: expected at most max_tokens, 4, got 5"):
        SamplingParams(min_tokens=5, max_tokens=4)


def test_biases_become_plain_python() -> None:
    biases: dict[Any, Any] = {np.int32(3): 1, 4: np.float32(-0.5)}
    assert SamplingParams(logit_bias=biases).logit_bias == {3: 1.0, 4: -0.5}


def test_unknown_name_is_refused() -> None:
    arguments: dict[str, Any] = {"temprature": 1.0}
    with pytest.raises(TypeError):
        SamplingParams(**arguments)


def test_values_become_plain_python() -> None:
    integers: dict[str, Any] = {"top_k": np.int64(5), "seed": np.uint64(2**64 - 1)}
    params = SamplingParams(temperature=1, stop=iter(["a", "b"]), **integers)
    assert isinstance(params.temperature, float) and type(params.top_k) is int
    assert params.seed == 2**64 - 1
    assert params.stop_strings == ("a", "b")
    assert SamplingParams(stop="ab").stop_strings == ("ab",)


def test_has_penalties() -> None:
    assert not SamplingParams(temperature=0.0).has_penalties
    assert SamplingParams(repetition_penalty=1.1).has_penalties
    assert SamplingParams(presence_penalty=-0.5).has_penalties
    assert SamplingParams(frequency_penalty=0.5).has_penalties
