"""Answers and the pieces of streamed ones, as the original shapes them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lepton_ai.engine.outputs import Completion, Usage
from lepton_ai.serve.protocol.events import event
from lepton_ai.serve.protocol.logprobs import Logprobs

Json = dict[str, object]


def usage_of(groups: Sequence[Sequence[Usage]], *, reasoning_tokens: int | None = None) -> Json:
    """Tokens of some prompts, each of which counts once, and of all their completions, reasoning among them."""
    details = {} if reasoning_tokens is None else {"completion_tokens_details": {"reasoning_tokens": reasoning_tokens}}
    prompt = sum(group[0].prompt_tokens for group in groups)
    completion = sum(usage.completion_tokens for group in groups for usage in group)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(group[0].cached_tokens for group in groups)},
    } | details


class Head:
    """What an answer and all its pieces begin with. ``has_usage``: a last piece has the usage, the others say null."""

    def __init__(
        self,
        id_: str,
        kind: str,
        created: int,
        model: str,
        *,
        has_usage: bool = False,
        service_tier: str | None = None,
    ) -> None:
        self.has_usage = has_usage
        self._fields: Json = {"id": id_, "object": kind, "created": created, "model": model}
        if service_tier is not None:
            self._fields["service_tier"] = service_tier
        # A stream says it again for each token: it is written once.
        self._start = msgspec.json.encode(self._fields).removesuffix(b"}") + b',"choices":'

    def answer(self, choices: Sequence[Json], usage: Json) -> Json:
        """A whole answer."""
        return {**self._fields, "choices": choices, "usage": usage}

    def event(self, choices: Sequence[Json], usage: Json | None = None) -> bytes:
        """A piece of a streamed one; that with the ``usage`` has no choices."""
        encode = msgspec.json.encode
        if not self.has_usage:
            return event(self._start, encode(choices), b"}")
        return event(self._start, encode(choices), b',"usage":', encode(usage), b"}")


def text_message(completion: Completion) -> Json:
    """The message of a whole chat answer that is text alone."""
    return {"role": "assistant", "content": completion.text, "refusal": None}


def chat_choice(index: int, message: Json, logprobs: Logprobs | None, finish_reason: str) -> Json:
    """A choice of a whole chat answer."""
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish_reason}


def chat_start(index: int, content: str | None = "") -> Json:
    """The first piece of a choice: who speaks. ``content`` is None where there may be none."""
    delta = {"role": "assistant", "content": content, "refusal": None}
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def chat_piece(index: int, delta: Json, logprobs: Logprobs | None) -> Json:
    """A piece of a choice."""
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}


def chat_end(index: int, finish_reason: str) -> Json:
    """The last piece of a choice: why it ends."""
    return {"index": index, "delta": {}, "logprobs": None, "finish_reason": finish_reason}


def text_choice(index: int, text: str, logprobs: Logprobs | None, finish_reason: str | None) -> Json:
    """A choice of a completion, whole or a piece."""
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
