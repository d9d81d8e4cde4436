"""200 JSON schemas on a real model: each is obeyed, as a validator of another make sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import jsonschema
import pytest
from tests.engine.schemas import make_schema

from lepton_ai import LLM, Constraint, SamplingParams
from lepton_ai.config import Environment
from lepton_ai.errors import DownloadFailed, InvalidRequest
from lepton_ai.weights.sources.progress import NoProgress
from lepton_ai.weights.sources.resolve import resolve

NUM_SCHEMAS, MAX_TOKENS, MAX_CUT = 200, 300, 20
FORMATS = jsonschema.FormatChecker(formats=("uuid", "ipv4", "email"))
"""Of a date, the validator refuses the year 0, which RFC 3339 has."""

UNSUPPORTED = (
    {"type": "array", "uniqueItems": True},
    {"type": "object", "minProperties": 2, "dependentRequired": {"a": ["b"]}},
    {"type": "array", "contains": {"type": "integer"}},
    {"not": {"type": "string"}},
    {"type": "object", "unevaluatedProperties": False},
    {"$ref": "https://example.com/schema.json"},
)


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    try:
        resolve("smollm2", Environment.read(), NoProgress())
    except DownloadFailed as error:
        pytest.skip(f"smollm2 cannot be fetched: {error.message}")
    with LLM("smollm2", max_model_len=512) as made:
        yield made
        made._client.check_integrity()


def test_outputs_are_valid(llm: LLM) -> None:
    schemas = [make_schema(seed) for seed in range(NUM_SCHEMAS)]
    params = [
        SamplingParams(constraint=Constraint.json_schema(schema), max_tokens=MAX_TOKENS, seed=seed)
        for seed, schema in enumerate(schemas)
    ]
    completions = llm.generate(["Answer in JSON: "] * NUM_SCHEMAS, params)
    cut = 0
    for schema, completion in zip(schemas, completions, strict=True):
        if completion.finish_reason == "length":  # it says so: the text is a beginning
            cut += 1
            continue
        assert completion.finish_reason == "stop"
        validator = jsonschema.Draft202012Validator(schema, format_checker=FORMATS)
        validator.validate(json.loads(completion.text))
    assert cut <= MAX_CUT


@pytest.mark.parametrize("schema", UNSUPPORTED, ids=lambda s: next(reversed(s)))
def test_what_is_not_supported_is_refused(llm: LLM, schema: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        llm.generate("x", SamplingParams(constraint=Constraint.json_schema(schema), max_tokens=4))
    assert caught.value.param == "constraint"
