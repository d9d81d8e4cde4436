"""Constraints on a model of random weights, whose texts would be noise: what comes is what was asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.engine.tiny_gguf import tiny_gguf

from lepton_ai import LLM, Constraint, SamplingParams
from lepton_ai.engine.constraints.token_matcher import TokenMatcher
from lepton_ai.errors import ConstraintTooComplex, InvalidRequest

SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "n": {"type": "integer", "minimum": 3, "maximum": 12}},
    "required": ["ok", "n"],
    "additionalProperties": False,
}
LONG = SamplingParams(max_tokens=200, seed=1, temperature=3.0)


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTON_HOME", str(tmp_path_factory.mktemp("home")))
        path = tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")
        with LLM(path, backend="cpu") as made:
            yield made
            made._client.check_integrity()


def texts(llm: LLM, constraint: Constraint, count: int = 8) -> list[str]:
    completions = llm.generate("x", replace(LONG, constraint=constraint, n=count))
    assert {c.finish_reason for c in completions} == {"stop"}
    return [c.text for c in completions]


def test_json_of_a_schema(llm: LLM) -> None:
    compact = {**SCHEMA, "x-guidance": {"whitespace_flexible": False}}
    for text in texts(llm, Constraint.json_schema(compact)):
        value = json.loads(text)
        assert set(value) == {"ok", "n"} and isinstance(value["ok"], bool) and 3 <= value["n"] <= 12


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_a_text_that_a_regular_expression_matches(llm: LLM, temperature: float) -> None:
    pattern = "[a-c]{2,5}-[0-9]{3}"
    params = replace(LONG, temperature=temperature, constraint=Constraint.regex(pattern))
    for completion in llm.generate(["a", "bc"], params):
        assert re.fullmatch(pattern, completion.text) and completion.finish_reason == "stop"


def test_one_of_some_texts(llm: LLM) -> None:
    options = ['say "yes"', "no", "Jein: ja\\nein", "größer"]
    made = set(texts(llm, Constraint.choice(options), 30))
    assert made <= set(options) and len(made) > 1


def test_a_context_free_grammar(llm: LLM) -> None:
    for text in texts(llm, Constraint.grammar('start: "(" start ")" | "x"')):
        depth = text.count("(")
        assert text == "(" * depth + "x" + ")" * depth


def test_neighbours_without_constraints_are_left_alone(llm: LLM) -> None:
    free = SamplingParams(max_tokens=12, seed=4, ignore_eos=True, logprobs=1)
    (alone,) = llm.generate("hello", free)
    bound = replace(LONG, constraint=Constraint.regex("[ab]{40}"))
    beside, _ = llm.generate(["hello", "hello"], [free, bound])
    assert beside == replace(alone, usage=beside.usage)


def test_a_text_that_is_cut_says_so(llm: LLM) -> None:
    (cut,) = llm.generate("x", SamplingParams(max_tokens=5, constraint=Constraint.regex("[ab]{40}")))
    assert cut.finish_reason == "length" and re.fullmatch("[ab]{5}", cut.text)


def test_nothing_is_added_where_the_end_token_is_ignored(llm: LLM) -> None:
    params = replace(LONG, ignore_eos=True, constraint=Constraint.choice(["ab"]))
    (completion,) = llm.generate("x", params)
    assert (completion.text, completion.finish_reason) == ("ab", "stop")


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (Constraint.json_schema({"type": "strin"}), "Invalid type"),
        (Constraint.json_schema({"type": "array", "uniqueItems": True}), "Unimplemented keys"),
        (Constraint.json_schema(False), "expected one that compiles"),
        (Constraint.regex("(a"), "invalid regex"),
        (Constraint.regex("(?=a)b"), "look-ahead"),
        (Constraint.regex("(" * 5000 + "a" + ")" * 5000), "expected one that compiles"),
        (Constraint.grammar("start: nope"), "unknown name"),
        (Constraint.grammar("begin: A"), "expected one that compiles"),
    ],
)
def test_what_is_not_supported_is_refused(llm: LLM, constraint: Constraint, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        llm.generate("x", replace(LONG, constraint=constraint))
    assert caught.value.param == "constraint"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Constraint.json_schema("{"),
        lambda: Constraint.json_schema([1]),  # type: ignore[arg-type]
        lambda: Constraint.json_schema({"a": object()}),
        lambda: Constraint.regex(""),
        lambda: Constraint.regex(3),  # type: ignore[arg-type]
        lambda: Constraint.grammar("x" * 300_000),
        lambda: Constraint.choice([]),
        lambda: Constraint.choice("abc"),
        lambda: Constraint.choice(["a", ""]),
        lambda: Constraint.choice([str(n) for n in range(1001)]),
        lambda: SamplingParams(constraint="a+"),  # type: ignore[arg-type]
    ],
)
def test_what_is_none_is_refused(make: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make()
    assert caught.value.param == "constraint"


def test_a_least_length_and_a_constraint_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="min_tokens: expected 0 beside a constraint"):
        SamplingParams(constraint=Constraint.regex("a"), min_tokens=3)


def test_a_constraint_that_explodes_ends_its_request_alone(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    accept, calls = TokenMatcher.accept, 0

    def explode(self: TokenMatcher, token_id: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise ConstraintTooComplex("constraint: too many items", param="constraint")
        accept(self, token_id)

    monkeypatch.setattr(TokenMatcher, "accept", explode)
    free = llm.stream("hello", SamplingParams(max_tokens=12, seed=4, ignore_eos=True))
    bound = llm.stream("x", replace(LONG, constraint=Constraint.regex("[ab]{40}")))
    with pytest.raises(ConstraintTooComplex, match="too many items"):
        list(bound)
    assert len(list(free)) == 12
    llm._client.check_integrity()


def test_constraints_are_compiled_once_and_never_shared(llm: LLM) -> None:
    constraint = Constraint.regex("[ab]{6}x")
    first = texts(llm, constraint, 4)
    assert texts(llm, Constraint.regex("[ab]{6}x"), 4) == first and len(set(first)) > 1


def test_a_state_that_outgrows_its_limits_is_an_error(llm: LLM) -> None:
    pattern = "((a{1,1000}){1,1000}){1,1000}"
    try:
        (completion,) = llm.generate("x", SamplingParams(max_tokens=60, seed=1, constraint=Constraint.regex(pattern)))
    except InvalidRequest as error:
        assert error.param == "constraint"
    else:
        assert set(completion.text) == {"a"}
