"""Numbers that no honest client sends."""

from __future__ import annotations

from typing import Any

import pytest
from tests.engine.tiny_gguf import VOCAB_SIZE
from tests.serve.attacks.harness import CHAT, COMPLETIONS, MESSAGES, Target

HUGE = (2**31, 2**63, 2**64, 10**30, -1, -(2**63), -(10**30))
COUNTS = ("n", "max_tokens", "min_tokens", "top_k", "seed", "priority")
OF_COMPLETIONS = ("best_of", "logprobs")
NUMBERS = ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")


def wrong(name: str, value: object) -> bool:
    """Whether a value of a count is out of its range."""
    return not (name == "seed" and value in (2**31, 2**63)) and not (name == "priority" and value == -1)


@pytest.mark.parametrize("name", [*COUNTS, *OF_COMPLETIONS])
def test_counts(target: Target, name: str) -> None:
    for value in (*HUGE, 10**4000):
        if wrong(name, value):
            body = {"model": "tiny", "prompt": "x", "max_tokens": 2} | {name: value}
            assert target.refused(COMPLETIONS, body)["param"] == name, value


@pytest.mark.parametrize("name", [*COUNTS, "max_completion_tokens", "top_logprobs"])
def test_counts_of_chats(target: Target, name: str) -> None:
    for value in HUGE:
        if wrong(name, value):
            more = {"logprobs": True} if name == "top_logprobs" else {}
            limit = {} if name == "max_completion_tokens" else {"max_tokens": 2}
            body = {"model": "tiny", "messages": MESSAGES} | limit | more | {name: value}
            error = target.refused(CHAT, body)
            assert error["param"] in (
                name,
                {"max_completion_tokens": "max_tokens", "top_logprobs": "logprobs"}.get(name),
            )


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(target: Target, name: str) -> None:
    for text in ("1e999", "-1e999", "1e308", "-1e308", str(10**400), "-1e-300" if name != "presence_penalty" else "3"):
        if name == "frequency_penalty" and text == "-1e-300":
            continue
        body = f'{{"model": "tiny", "prompt": "x", "max_tokens": 2, "{name}": {text}}}'.encode()
        assert target.refused(COMPLETIONS, body)["param"] == name, text


@pytest.mark.parametrize("value", [1.0, 1.5, "1", True, [1], {"a": 1}])
@pytest.mark.parametrize("name", ["n", "max_tokens", "seed", "top_k"])
def test_what_is_no_integer(target: Target, name: str, value: object) -> None:
    body = {"model": "tiny", "prompt": "x", name: value}
    assert target.refused(COMPLETIONS, body)["param"] == name


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"logit_bias": {str(i): 1 for i in range(301)}}, "logit_bias"),
        ({"logit_bias": {"1" * 5000: 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"٣": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 1e308}}, "logit_bias"),
        ({"logit_bias": {str(VOCAB_SIZE): 1}}, "logit_bias"),
        ({"logit_bias": {"999999999": 1}}, "logit_bias"),
        ({"stop": ["x"] * 65}, "stop"),
        ({"stop": "x" * 1025}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stop_token_ids": list(range(1025))}, "stop_token_ids"),
        ({"stop_token_ids": [VOCAB_SIZE]}, "stop_token_ids"),
        ({"stop_token_ids": [-1]}, "stop_token_ids"),
        ({"stop_token_ids": [2**70]}, "stop_token_ids"),
        ({"user": "x" * 129}, "user"),
        ({"n": 64, "best_of": 2}, "best_of"),
        ({"n": 2, "best_of": 10**9}, "best_of"),
        ({"max_tokens": 3, "min_tokens": 4}, "min_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
    ids=str,
)
def test_lists_and_pairs(target: Target, more: dict[str, Any], param: str) -> None:
    error = target.refused(COMPLETIONS, {"model": "tiny", "prompt": "x", **more})
    assert error["param"].split(".")[0] == param, error


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        [],
        [""],
        [[]],
        [[], []],
        [-1],
        [VOCAB_SIZE],
        [2**31],
        [2**63],
        [2**64],
        [10**40],
        [1, 2**64],
        [[1], [-(2**31) - 1]],
        [None],
        [1.5],
        [True],
        [[True]],
        ["a", 1],
        [1, "a"],
        [[1], "a"],
        [["a"]],
        [[[1]]],
        {},
        None,
        5,
    ],
    ids=str,
)
def test_prompts(target: Target, prompt: object) -> None:
    assert str(target.refused(COMPLETIONS, {"model": "tiny", "prompt": prompt})["param"]).startswith("prompt")
    assert target.refused("/v1/embeddings", {"model": "bert", "input": prompt}) if prompt not in ("", [""]) else True


@pytest.mark.parametrize("tokens", [[], [-1], [VOCAB_SIZE], [2**63], [2**64], ["a"], [None]], ids=str)
def test_tokens_to_join(target: Target, tokens: object) -> None:
    assert str(target.refused("/detokenize", {"model": "tiny", "tokens": tokens})["param"]).startswith("tokens")


def test_many_completions_at_once(target: Target) -> None:
    assert target.refused(COMPLETIONS, {"model": "tiny", "prompt": ["x"] * 257})["param"] == "prompt"
    assert target.refused(COMPLETIONS, {"model": "tiny", "prompt": ["x"] * 5, "n": 64})["param"] == "prompt"
    assert target.refused(COMPLETIONS, {"model": "tiny", "prompt": ["x"] * 5, "best_of": 64})["param"] == "prompt"
    answer = target.post(COMPLETIONS, {"model": "tiny", "prompt": ["x"] * 128, "n": 2, "max_tokens": 1})
    assert len(answer.json()["choices"]) == 256


def test_log_probabilities_that_would_fill_the_memory(target: Target) -> None:
    body = {"model": "tiny", "prompt": "x" * 240, "n": 64, "echo": True, "logprobs": 20, "max_tokens": 1}
    assert target.refused(COMPLETIONS, body)["param"] == "logprobs"
    assert target.refused(COMPLETIONS, body | {"stream": True})["param"] == "logprobs"


def test_a_prompt_that_is_longer_than_the_context(target: Target) -> None:
    for prompt in ("x" * 300_000, [1] * 1_300_000, ["x" * 20_000] * 20, [[1] * 100_000] * 10):
        assert target.refused(COMPLETIONS, {"model": "tiny", "prompt": prompt})["code"] == "context_length_exceeded"
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "x" * 300_000}]}
    assert target.refused(CHAT, chat)["code"] == "context_length_exceeded"
    many = {"model": "tiny", "messages": MESSAGES * 4096}
    assert target.refused(CHAT, many)["code"] == "context_length_exceeded"
    assert target.refused(CHAT, {"model": "tiny", "messages": MESSAGES * 4097})["param"] == "messages"
    assert target.refused("/v1/embeddings", {"model": "bert", "input": "who " * 10_000})
    assert target.refused("/v1/embeddings", {"model": "bert", "input": ["who"] * 2049})["param"] == "input"


def test_several_completions_that_are_refused_leave_nothing(target: Target) -> None:
    """Refused by the engine, that is, which knows them by several numbers; ``target`` looks at what is left."""
    for stream in (False, True):
        body = {"model": "tiny", "prompt": "x", "n": 3, "stream": stream}
        assert target.refused(COMPLETIONS, body | {"max_tokens": 1000})["code"] == "context_length_exceeded"
        bad = {"type": "json_schema", "json_schema": {"schema": {"type": "everything"}}}
        assert target.refused(COMPLETIONS, body | {"response_format": bad})["param"] == "response_format"
