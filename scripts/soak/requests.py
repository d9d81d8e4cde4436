"""Requests of all shapes: good ones, those that a client leaves, and those that are refused."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scripts.soak.client import Leave

MAX_MODEL_LEN = 512
MAX_BODY = 256 << 10

_CHAT, _COMPLETIONS, _EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
_LEFT_SHARE, _REFUSED_SHARE = 0.1, 0.05
_MAX_TOKENS = (1, 8, 30, 60)
_PROSE = (
    "the river carries old stones down to a quiet town where people mend boats and tell stories about winter storms "
    "bright lamps burn late while bakers knead dough for morning bread children count ships that pass beyond harbor "
    "walls gardens grow beans apples thyme under slow clouds every road leads past one mill two bridges some fields"
)
_STOPS = (" the", ".", "\n")
_SCHEMAS = (
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "maximum": 99}},
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    {"type": "object", "properties": {"is_good": {"type": "boolean"}}, "required": ["is_good"]},
    {"enum": ["red", "green", "blue"]},
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a request is expected to be refused with."""

    status: int
    code: str


@dataclass(frozen=True, slots=True)
class Spec:
    """One request as bytes, what it is made of, and what is expected of its answer. ``shapes`` are for counting."""

    shapes: tuple[str, ...]
    path: str
    body: bytes
    fields: dict[str, Any] = field(default_factory=dict)
    headers: tuple[str, ...] = ("content-type: application/json",)
    method: str = "POST"
    refusal: Refusal | None = None
    leave: Leave | None = None

    @property
    def is_streamed(self) -> bool:
        """Whether events are expected."""
        return bool(self.fields.get("stream")) and self.refusal is None

    @property
    def for_encoder(self) -> bool:
        """Whether it goes to the server of the encoder."""
        return self.path == _EMBEDDINGS

    def as_bytes(self) -> bytes:
        """On the wire."""
        lines = (f"{self.method} {self.path} HTTP/1.1", "host: 127.0.0.1", *self.headers)
        head = "\r\n".join((*lines, f"content-length: {len(self.body)}"))
        return f"{head}\r\n\r\n".encode() + self.body


class Writer:
    """Writes requests to two models, by a seed."""

    def __init__(self, model: str, encoder: str, seed: int) -> None:
        self._model, self._encoder = model, encoder
        self._rng = random.Random(seed)
        self._words = _PROSE.split()
        self._beginnings = [self._text(10, 120) for _ in range(8)]
        self._count = 0

    def mixed(self, count: int) -> list[Spec]:
        """Of all kinds: a twentieth is refused, a tenth is left."""
        return [self._any() for _ in range(count)]

    def good(self, count: int, *, with_vectors: bool = True) -> list[Spec]:
        """That nobody leaves."""
        return [self._good(with_vectors=with_vectors) for _ in range(count)]

    def long(self, *, stream: bool, max_tokens: int, **more: object) -> Spec:
        """A completion that takes a while."""
        fields: dict[str, Any] = {"model": self._model, "prompt": self._text(5, 60), "ignore_eos": True, **more}
        fields |= {"max_tokens": max_tokens, "seed": self._next(), "temperature": 0.8, "stream": stream}
        return _spec(("long", "streamed" if stream else "whole"), _COMPLETIONS, fields)

    def spelling(self, token_ids: Sequence[int]) -> Spec:
        """How tokens are spelled."""
        return _spec(("detokenize",), "/detokenize", {"model": self._model, "tokens": list(token_ids)})

    def _any(self) -> Spec:
        chance = self._rng.random()
        if chance < _REFUSED_SHARE:
            return self._refused()
        spec = self._good(with_vectors=True)
        if chance > _REFUSED_SHARE + _LEFT_SHARE:
            return spec
        while_, most = self._rng.choice((("sending", 0.3), ("waiting", 3.0), ("waiting", 0.1), ("reading", 20.0)))
        leave = Leave(while_, self._rng.random() * most)  # type: ignore[arg-type]  # one of the three
        return replace(spec, leave=leave)

    def _good(self, *, with_vectors: bool) -> Spec:
        chance = self._rng.random()
        if chance < 0.04:
            return _spec(("tokenize",), "/tokenize", {"model": self._model, "prompt": self._text(1, 200)})
        if chance < 0.12 and with_vectors:
            texts = [self._text(1, 60) for _ in range(self._rng.choice((1, 1, 4)))]
            return _spec(("embeddings",), _EMBEDDINGS, {"model": self._encoder, "input": texts})
        return self._generation()

    def _generation(self) -> Spec:
        rng, is_chat, shapes = self._rng, self._rng.random() < 0.6, []
        fields: dict[str, Any] = {"model": self._model, "seed": self._next(), "temperature": rng.choice((0, 0.8, 1.2))}
        fields["max_tokens"] = rng.choice(_MAX_TOKENS)
        if is_chat:
            fields["messages"] = self._messages()
        else:
            fields["prompt"] = self._text(1, 100)
        if rng.random() < 0.5:
            fields["stream"] = True
            if rng.random() < 0.5:
                fields["stream_options"] = {"include_usage": True}
        if rng.random() < 0.12:
            shapes.append("n=3")
            fields["n"] = 3
        if rng.random() < 0.2:
            shapes.append("logprobs")
            fields |= {"logprobs": True, "top_logprobs": 3} if is_chat else {"logprobs": 3}
        if rng.random() < 0.15:
            shapes.append("stop")
            fields["stop"] = list(rng.sample(_STOPS, 2))
        elif rng.random() < 0.12:
            shapes.append("schema")
            schema = {"name": "answer", "schema": rng.choice(_SCHEMAS)}
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif rng.random() < 0.3:
            fields["ignore_eos"] = True
        if rng.random() < 0.2:
            fields |= {"user": rng.choice("ab"), "priority": rng.choice((-1, 0, 1))}
        kind = ("chat" if is_chat else "completion") + (", streamed" if "stream" in fields else "")
        headers = ("connection: close",) if rng.random() < 0.1 else ()
        return _spec((kind, *shapes), _CHAT if is_chat else _COMPLETIONS, fields, *headers)

    def _messages(self) -> list[dict[str, str]]:
        said = [{"role": "user", "content": self._text(1, 60)}]
        if self._rng.random() < 0.4:
            said += [
                {"role": "assistant", "content": self._text(1, 30)},
                {"role": "user", "content": self._text(1, 20)},
            ]
        if self._rng.random() < 0.5:
            said.insert(0, {"role": "system", "content": self._rng.choice(self._beginnings)})
        return said

    def _refused(self) -> Spec:
        good = {"model": self._model, "prompt": self._text(1, 20), "max_tokens": 8, "stream": self._rng.random() < 0.5}
        chat = {"model": self._model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
        schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "river"}}}
        bad, rng = Refusal(400, "invalid_request"), self._rng
        name, path, fields, refusal = rng.choice(
            (
                ("wrong type", _COMPLETIONS, good | {"max_tokens": "ten"}, bad),
                ("unknown field", _COMPLETIONS, good | {"temprature": 1}, bad),
                ("out of range", _COMPLETIONS, good | {"temperature": -1}, bad),
                ("no messages", _CHAT, {"model": self._model}, bad),
                ("unknown role", _CHAT, chat | {"messages": [{"role": "river", "content": "a"}]}, bad),
                ("not supported", _CHAT, chat | {"store": True}, bad),
                ("bad schema", _CHAT, chat | {"response_format": schema}, bad),
                ("unknown model", _CHAT, chat | {"model": "nobody"}, Refusal(404, "model_not_found")),
                ("too long", _COMPLETIONS, good | {"prompt": "a b " * 999}, Refusal(400, "context_length_exceeded")),
                ("too large", _CHAT, chat | {"user": "a" * MAX_BODY}, Refusal(413, "body_too_large")),
                ("no route", "/v1/rivers", good, Refusal(404, "not_found")),
                ("no method", _CHAT, chat, Refusal(405, "method_not_allowed")),
                ("no JSON", _CHAT, chat, bad),
                ("no text", _CHAT, chat, bad),
                ("other type", _CHAT, chat, Refusal(415, "unsupported_body")),
                ("bad deadline", _COMPLETIONS, good, bad),
            )
        )
        spec = replace(_spec(("refused", name), path, fields), refusal=refusal)
        match name:
            case "no method":
                return replace(spec, method="PUT")
            case "no JSON":
                return replace(spec, body=spec.body[: rng.randrange(1, len(spec.body))])
            case "no text":
                return replace(spec, body=b'{"model": "\xff\xfe"}')
            case "other type":
                return replace(spec, headers=("content-type: text/plain",))
            case "bad deadline":
                return replace(spec, headers=(*spec.headers, "x-request-timeout: soon"))
        return spec

    def _text(self, least: int, most: int) -> str:
        return " ".join(self._rng.choices(self._words, k=self._rng.randint(least, most)))

    def _next(self) -> int:
        self._count += 1
        return self._count


def _spec(shapes: tuple[str, ...], path: str, fields: dict[str, Any], *headers: str) -> Spec:
    made = Spec(shapes, path, json.dumps(fields).encode(), fields)
    return replace(made, headers=(*made.headers, *headers))
