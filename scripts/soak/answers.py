"""What is wrong with an answer, and what of it must not depend on what else the server does."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, NamedTuple

from scripts.soak.client import Answer
from scripts.soak.requests import Spec

_DONE = "[DONE]"


class Wrong(Exception):
    """An answer is not what it must be."""


class Ending(NamedTuple):
    """How a request ended.

    ``code`` is that of an error, in a stream too; None for an answer to what was asked. ``digest`` is of its content.
    """

    status: int
    code: str | None
    digest: bytes = b""
    retry_after: str | None = None

    @property
    def is_good(self) -> bool:
        """Whether what was asked for has come, all of it."""
        return self.status == 200 and self.code is None


def read(spec: Spec, answer: Answer) -> Ending:
    """What the answer to a request says. Raises Wrong: it has no end, two, or not what was asked for."""
    retry_after = answer.headers.get("retry-after")
    kind = answer.headers.get("content-type", "")
    if answer.status != 200:
        error = _parse(answer.body)["error"]
        if not (
            isinstance(error["message"], str) and isinstance(error["type"], str) and isinstance(error["code"], str)
        ):
            raise Wrong(f"an error without its parts: {error}")
        return Ending(answer.status, error["code"], retry_after=retry_after)
    if not spec.is_streamed:
        if not kind.startswith("application/json"):
            raise Wrong(f"content-type {kind}")
        return Ending(200, None, _digest(_content(spec, _parse(answer.body))))
    if not kind.startswith("text/event-stream"):
        raise Wrong(f"content-type {kind}")
    pieces, code = _events(answer.body)
    if code is not None:
        return Ending(200, code)
    return Ending(200, None, _digest(_content(spec, _joined(spec, pieces))))


def breaches_of(spec: Spec, ending: Ending) -> list[str]:
    """What is wrong with the end of a request at a server that is well."""
    if spec.refusal is None:
        return [] if ending.is_good else [f"status {ending.status}, {ending.code}, for what is good"]
    if (ending.status, ending.code) == (spec.refusal.status, spec.refusal.code):
        return []
    return [f"expected {spec.refusal.status}, {spec.refusal.code}, got {ending.status}, {ending.code}"]


def _events(body: bytes) -> tuple[list[dict[str, Any]], str | None]:
    """The pieces of a stream, and the code of the error that ended it. A stream has one end, and nothing behind it."""
    text = body.decode("utf-8")
    if not text.endswith("\n\n"):
        raise Wrong("the last event of a stream is cut")
    events = [event for event in text[:-2].split("\n\n") if not event.startswith(":")]
    if not all(event.startswith("data: ") and "\n" not in event for event in events):
        raise Wrong("a stream has more than data in it")
    contents = [event.removeprefix("data: ") for event in events]
    pieces = [{} if content == _DONE else _parse(content.encode()) for content in contents]
    ends = [index for index, piece in enumerate(pieces) if not piece or "error" in piece]
    if ends != [len(pieces) - 1]:
        raise Wrong(f"a stream of {len(pieces)} events has ends at {ends}")
    last = pieces.pop()
    return pieces, (str(last["error"]["code"]) if last else None)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError as error:
        raise Wrong(f"no JSON: {error}") from None
    if not isinstance(content, dict):
        raise Wrong("no object")
    return content


def _joined(spec: Spec, pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """A stream as if it had come whole."""
    choices: dict[int, dict[str, Any]] = {}
    usage = None
    for piece in pieces:
        if usage is not None:
            raise Wrong("a piece behind the usage")
        if not piece["choices"]:
            usage = piece["usage"]
        for part in piece["choices"]:
            choice = choices.setdefault(part["index"], {"text": "", "logprobs": [], "finish_reason": None})
            if choice["finish_reason"] is not None:
                raise Wrong("a piece of a choice that has ended")
            choice["text"] += (part["delta"].get("content") or "") if "delta" in part else part["text"]
            choice["logprobs"] += _logprobs(part)
            choice["finish_reason"] = part["finish_reason"]
    if (usage is None) == spec.fields.get("stream_options", {}).get("include_usage", False):
        raise Wrong("a usage that was not asked for, or none")
    return {"choices": [choices[index] for index in sorted(choices)], "usage": usage}


def _logprobs(choice: dict[str, Any]) -> list[Any]:
    found = choice.get("logprobs")
    if not found:
        return []
    if "content" in found:
        return list(found["content"] or ())
    return [list(entry) for entry in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True)]


def _content(spec: Spec, answer: dict[str, Any]) -> object:
    """What of an answer must not change. Raises Wrong where it is not what was asked for."""
    if spec.path == "/tokenize":
        if answer["count"] != len(answer["tokens"]) or not answer["tokens"]:
            raise Wrong("tokens that are not counted")
        return answer["tokens"]
    if spec.for_encoder:
        vectors = [entry["embedding"] for entry in answer["data"]]
        if len(vectors) != len(spec.fields["input"]):
            raise Wrong("not as many vectors as texts")
        if any(abs(math.hypot(*vector) - 1) > 1e-3 for vector in vectors):
            raise Wrong("a vector whose length is not 1")
        return vectors
    choices = answer["choices"]
    if len(choices) != spec.fields.get("n", 1):
        raise Wrong(f"{len(choices)} choices")
    return [_choice(spec, choice) for choice in choices]


def _choice(spec: Spec, choice: dict[str, Any]) -> object:
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    logprobs = choice["logprobs"] if isinstance(choice["logprobs"], list) else _logprobs(choice)
    reason = choice["finish_reason"]
    if reason not in ("stop", "length"):
        raise Wrong(f"finish_reason {reason}")
    if any(stop in text for stop in spec.fields.get("stop", ())):
        raise Wrong("a stop string in the text")
    if bool(logprobs) != bool(spec.fields.get("logprobs")) and text:
        raise Wrong("log-probabilities that were not asked for, or none")
    if "response_format" in spec.fields and reason == "stop":
        _check_schema(spec.fields["response_format"]["json_schema"]["schema"], text)
    return [text, logprobs, reason]


def _check_schema(schema: dict[str, Any], text: str) -> None:
    """Against the schemas that are asked for here."""
    value = json.loads(text)
    if "enum" in schema:
        if value not in schema["enum"]:
            raise Wrong("JSON that is none of the choices")
    elif not isinstance(value, dict) or not set(schema["required"]) <= value.keys():
        raise Wrong("JSON that does not match its schema")


def _digest(content: object) -> bytes:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
