"""What requests have in common: no unknown fields, no coercion, and how a text is sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from lepton_ai.engine.constraints.constraint import Constraint
from lepton_ai.engine.sampling_params import MAX_BIASES, MAX_STOP_IDS, MAX_STOP_STRINGS, SamplingParams
from lepton_ai.errors import InvalidRequest

Prompt = str | list[int]


def _form_of(value: object) -> str:
    """Which form of several texts a value has, by its first item: the others need not be tried then."""
    if not isinstance(value, list) or not value:
        return "(text)" if not isinstance(value, list) else "(texts)"
    match value[0]:
        case int():
            return "(ids)"
        case list():
            return "(several ids)"
        case _:
            return "(texts)"


def text_or_list(value: object) -> str:
    """Which of the two forms that some fields have a value has: an error then speaks of that form alone."""
    return "(list)" if isinstance(value, list) else "(text)"


Id = Annotated[int, Field(ge=0, le=2**31 - 1)]
Ids = Annotated[list[Id], Field(min_length=1, fail_fast=True)]
Texts = Annotated[
    Annotated[str, Tag("(text)")]
    | Annotated[list[str], Field(min_length=1, max_length=2048, fail_fast=True), Tag("(texts)")]
    | Annotated[Ids, Tag("(ids)")]
    | Annotated[list[Ids], Field(min_length=1, max_length=2048, fail_fast=True), Tag("(several ids)")],
    Discriminator(_form_of),
]
"""One text or several, or their token ids. Checking ends at the first wrong item: there may be a million."""


Stops = Annotated[
    Annotated[str, Tag("(text)")]
    | Annotated[list[str], Field(max_length=MAX_STOP_STRINGS, fail_fast=True), Tag("(list)")],
    Discriminator(text_or_list),
]


class RequestModel(BaseModel):
    """A field that is not declared is an error that names it; so is a string where a number belongs."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    unsupported: ClassVar[Mapping[str, str]] = {}
    """Fields of the original that are not obeyed, and why; null and false ask for nothing."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        known = _names_of(cls)
        for name in data:
            if name in known:
                continue
            if name not in cls.unsupported:  # the first, not a list of thousands
                raise PydanticCustomError("unknown", "{name}", {"name": f"{name:.80}"})
            if data[name] not in (None, False):
                raise PydanticCustomError("unsupported", "{name}", {"name": name, "reason": cls.unsupported[name]})
        return {name: value for name, value in data.items() if name in known}


@cache
def _names_of(kind: type[RequestModel]) -> frozenset[str]:
    return frozenset(field.alias or name for name, field in kind.model_fields.items())


class StreamOptions(RequestModel):
    """``include_usage``: a last chunk without choices says how many tokens there were.

    ``include_obfuscation``: chunks are never padded.
    """

    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class JsonSchema(RequestModel):
    """A schema that the answer must match. ``strict`` may be left out: a schema is always followed."""

    name: str | None = None
    description: str | None = None
    schema_: Annotated[dict[str, Any] | bool | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(RequestModel):
    """``text``, ``json_object``, or ``json_schema`` with the schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def constraint(self) -> Constraint | None:
        """What it asks of a text. Raises InvalidRequest."""
        match self.type, self.json_schema:
            case "text", None:
                return None
            case "json_object", None:
                return Constraint.json_schema({"type": "object"})
            case "json_schema", JsonSchema(schema_=schema) if schema is not None:
                return Constraint.json_schema(schema)
            case "json_schema", _:
                raise InvalidRequest(
                    "response_format.json_schema.schema: expected a schema", param="response_format.json_schema"
                )
            case _:
                raise InvalidRequest(
                    f"response_format.json_schema: expected none beside {self.type}",
                    param="response_format.json_schema",
                )


class SamplingFields(RequestModel):
    """Fields of chats and completions that say how a text is sampled. None: what the model's default is."""

    model: str
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: Stops | None = None
    stop_token_ids: Annotated[list[Id], Field(max_length=MAX_STOP_IDS, fail_fast=True)] | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=MAX_BIASES)] | None = None
    n: int | None = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=128)] | None = None
    priority: int | None = None

    @property
    def is_streamed(self) -> bool:
        """Whether the answer comes piece by piece."""
        return bool(self.stream)

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with a chunk that has the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, defaults: SamplingParams, **more: object) -> SamplingParams:
        """Parameters: ``defaults``, this request's fields over them, then ``more`` that is not None.

        Raises InvalidRequest, naming the field.
        """
        if self.stream_options is not None and not self.is_streamed:
            raise InvalidRequest("stream_options: expected none without stream", param="stream_options")
        values: dict[str, object] = {name: getattr(self, name) for name in _DIRECT}
        values["logit_bias"] = _biases(self.logit_bias)
        values["constraint"] = self.response_format.constraint() if self.response_format else None
        values |= more
        return replace(defaults, **{name: value for name, value in values.items() if value is not None})  # type: ignore[arg-type]  # it checks them


def as_several(given: str | list[str] | list[int] | list[list[int]]) -> list[Prompt]:
    """The texts, or lists of ids, of ``Texts``."""
    if isinstance(given, str):
        return [given]
    if isinstance(given[0], int):
        return [given]
    return list(given)


_DIRECT = tuple(
    field.name
    for field in fields(SamplingParams)
    if field.name in SamplingFields.model_fields and field.name != "logit_bias"
)


def _biases(biases: Mapping[str, float] | None) -> dict[int, float] | None:
    if biases is None:
        return None
    for token_id in biases:
        if not (token_id.isascii() and token_id.isdigit() and len(token_id) < 10):
            raise InvalidRequest(f"logit_bias: expected token ids as keys, got {token_id!r:.40}", param="logit_bias")
    return {int(token_id): bias for token_id, bias in biases.items()}
