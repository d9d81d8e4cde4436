"""What a client and an engine's process say to each other.

Each message is a typed struct; msgspec checks types when it decodes, and nothing in a message is code. What the engine
itself checks (sampling parameters, prompts) is checked by the same constructors as in one process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TypeAlias

import msgspec
import numpy as np

from lepton_ai.engine.constraints.constraint import Constraint, ConstraintKind
from lepton_ai.engine.outputs import Classification, LabeledToken, TokenLogprob
from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.stats import EngineStats
from lepton_ai.engine.text_encoder import Text
from lepton_ai.errors import InvalidRequest

Value: TypeAlias = bool | int | float | str | list[str | int] | dict[int, float] | None
"""A field of ``SamplingParams``."""

WireText: TypeAlias = str | list[str | int]
"""A text of an encoder, two that belong together, or token ids."""


_MAX_ID = 2**31 - 1
"""Larger numbers are no ids; those of more than 64 bits could not be sent."""


class _Message(msgspec.Struct, array_like=True, forbid_unknown_fields=True, tag=True):
    """Structs go as arrays, the name of their class first."""


class LoadModel(_Message):
    """Load a model under a name. ``options`` are those of ``LLM`` that say how one model runs."""

    name: str
    model: str
    options: dict[str, bool | int | str | list[str] | None]


class UnloadModel(_Message):
    """Let go of a model; what it runs is cancelled. The name is not used again."""

    name: str


class Submit(_Message):
    """Generate for a prompt, once for each of ``ids``; each id is a new one."""

    name: str
    ids: list[int]
    prompt: bytes
    params: dict[str, Value]
    options: RequestOptions


class Cancel(_Message):
    """End generations. Those that have ended are left alone."""

    ids: list[int]


class Pause(_Message):
    """Let a generation wait until ``Resume``; it holds no memory meanwhile."""

    id: int


class Resume(_Message):
    """Let it go on."""

    id: int


class Embed(_Message):
    """Vectors of texts, or pairs of them: see ``LLM.embed``."""

    id: int
    name: str
    texts: list[WireText]
    pooling: str | None
    normalize: bool | None
    max_length: int | None


class Classify(_Message):
    """Classes of texts, or of their tokens: see ``LLM.classify``."""

    id: int
    name: str
    texts: list[WireText]
    per_token: bool
    max_length: int | None


class GetStats(_Message):
    """Ask for the statistics of a model."""

    id: int
    name: str


class CheckIntegrity(_Message):
    """Assert the invariants of a model's engine."""

    id: int
    name: str


class Ping(_Message):
    """Ask whether the thread that runs steps still does."""

    id: int


Command: TypeAlias = (
    LoadModel | UnloadModel | Submit | Cancel | Pause | Resume | Embed | Classify | GetStats | CheckIntegrity | Ping
)
"""From a client to the process."""


class ErrorMessage(_Message):
    """A LeptonError: see ``errors.rebuild``."""

    code: str
    message: str
    param: str | None


class Loaded(_Message):
    """A model runs; ``info`` is its ModelInfo."""

    name: str
    info: dict[str, int | str | None]


class LoadFailed(_Message):
    """A model could not be loaded."""

    name: str
    error: ErrorMessage


class Working(_Message):
    """How far the loading of a model is: see ``Progress``.

    With ``total_bytes`` a transfer starts, called ``text``; else a ``text`` describes what is done now, and without one
    ``done_bytes`` have come.
    """

    name: str
    text: str
    done_bytes: int
    total_bytes: int


class Worked(_Message):
    """The work that ``Working`` told of has ended."""

    name: str


class Accepted(_Message):
    """A request was queued; ``id`` is its first."""

    id: int


class Failed(_Message):
    """What was asked under this id was refused, or failed under way."""

    id: int
    error: ErrorMessage


class Token(msgspec.Struct, frozen=True, array_like=True):
    """A token of a generation, or its end without one. ``num_cached_tokens`` of the prompt were found in the cache.

    ``prompt_logprobs`` come with the first.
    """

    id: int
    token_id: int | None
    finish_reason: str | None
    num_cached_tokens: int
    logprob: TokenLogprob | None
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None


class Tokens(_Message):
    """What one step gave, in the order of the engine."""

    tokens: list[Token]


class Cancelled(_Message):
    """A generation has ended because it was to."""

    id: int
    num_cached_tokens: int


class Vectors(_Message):
    """``[n, C]`` f32 in the byte order of the machine."""

    id: int
    num_rows: int
    data: bytes


class Classes(_Message):
    """A class for each text."""

    id: int
    classes: list[Classification]


class TokenClasses(_Message):
    """Classes of the tokens of each text."""

    id: int
    classes: list[list[LabeledToken]]


class Stats(_Message):
    """The statistics of an engine."""

    id: int
    stats: EngineStats


class Checked(_Message):
    """All invariants hold; ``problem`` says which does not."""

    id: int
    problem: str | None


class Pong(_Message):
    """It does."""

    id: int


Event: TypeAlias = (
    Loaded
    | LoadFailed
    | Working
    | Worked
    | Accepted
    | Failed
    | Tokens
    | Cancelled
    | Vectors
    | Classes
    | TokenClasses
    | Stats
    | Checked
    | Pong
)
"""From the process to its client."""


def encode_params(params: SamplingParams) -> dict[str, Value]:
    """The fields that differ from their defaults; a constraint as its kind and its source."""
    wire: dict[str, Value] = {}
    for field in fields(params):
        value = getattr(params, field.name)
        if value == field.default:
            continue
        if isinstance(value, Constraint):
            wire[field.name] = [value.kind.value, value.source]
        else:
            wire[field.name] = list(value) if isinstance(value, tuple) else value
    return wire


def encode_text(text: Text) -> WireText:
    """A text as it is sent. Raises InvalidRequest for what is none."""
    if isinstance(text, str):
        return text
    if isinstance(text, tuple | list | np.ndarray):
        values = text.tolist() if isinstance(text, np.ndarray) else list(text)
        if all(isinstance(v, str) or (isinstance(v, int) and 0 <= v <= _MAX_ID) for v in values):
            return values
    raise InvalidRequest(
        f"texts: expected text, a pair or token ids, none of them negative, got {type(text).__name__}", param="texts"
    )


def decode_text(wire: WireText) -> Text:
    """What ``encode_text`` made. Raises InvalidRequest for what it cannot have made."""
    match wire:
        case str():
            return wire
        case [str(first), str(second)]:
            return (first, second)
        case _:
            return [value if isinstance(value, int) else _no_id(value) for value in wire]


def _no_id(value: str) -> int:
    raise InvalidRequest(f"texts: expected two texts or token ids, got {value!r:.40} among several", param="texts")


def decode_params(wire: Mapping[str, Value]) -> SamplingParams:
    """What ``encode_params`` made. Raises InvalidRequest for what it cannot have made."""
    values: dict[str, object] = dict(wire)
    if "constraint" in values:
        match values["constraint"]:
            case [str(kind), str(source)] if kind in {k.value for k in ConstraintKind}:
                values["constraint"] = Constraint(ConstraintKind(kind), source)
            case _:
                raise InvalidRequest("constraint: expected its kind and its source", param="constraint")
    if unknown := values.keys() - {field.name for field in fields(SamplingParams)}:
        raise InvalidRequest(f"params: expected fields of SamplingParams, got {min(unknown)!r:.60}", param="params")
    return SamplingParams(**values)  # type: ignore[arg-type]  # it checks them
