"""What requests have in common: no unknown fields, no coercion, and how a text is sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from lepton_ai.engine.constraints.constraint import Constraint
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.errors import InvalidRequest

Prompt = str | list[int]


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
        for name, reason in cls.unsupported.items():
            if data.get(name) not in (None, False):
                raise PydanticCustomError("unsupported", "{name}: not supported, as {reason}", _context(name, reason))
        return {name: value for name, value in data.items() if name not in cls.unsupported}


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

    type: str
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
                    f"response_format: expected text, json_object or json_schema, got {self.type!r:.40}",
                    param="response_format",
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
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    logit_bias: dict[str, float] | None = None
    n: int | None = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
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


def _context(name: str, reason: str) -> dict[str, Any]:
    return {"name": name, "reason": reason}


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
