"""Answers and the pieces of streamed ones, as the original shapes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lepton_ai.engine.outputs import Chunk, Completion, Usage
from lepton_ai.serve.protocol.logprobs import Logprobs

Json = dict[str, object]


def usage_of(groups: Sequence[Sequence[Usage]]) -> Json:
    """Tokens of some prompts, each of which counts once, and of all their completions."""
    prompt = sum(group[0].prompt_tokens for group in groups)
    completion = sum(usage.completion_tokens for group in groups for usage in group)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(group[0].cached_tokens for group in groups)},
    }


@dataclass(frozen=True, slots=True)
class Head:
    """What an answer and all its pieces begin with."""

    id: str
    object: str
    created: int
    model: str

    def answer(self, choices: Sequence[Json], usage: Json) -> Json:
        """A whole answer."""
        return self._common() | {"choices": choices, "usage": usage}

    def piece(self, choices: Sequence[Json], usage: Json | None = None) -> Json:
        """A piece of a streamed one; that with the ``usage`` has no choices."""
        return self._common() | {"choices": choices} | ({} if usage is None else {"usage": usage})

    def _common(self) -> Json:
        return {"id": self.id, "object": self.object, "created": self.created, "model": self.model}


def chat_choice(index: int, completion: Completion, logprobs: Logprobs | None) -> Json:
    """A choice of a whole chat answer."""
    message = {"role": "assistant", "content": completion.text, "refusal": None}
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": completion.finish_reason}


def chat_start(index: int) -> Json:
    """The first piece of a choice: who speaks."""
    delta = {"role": "assistant", "content": "", "refusal": None}
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def chat_piece(index: int, chunk: Chunk, logprobs: Logprobs | None) -> Json:
    """A piece of a choice with text."""
    return {"index": index, "delta": {"content": chunk.text}, "logprobs": logprobs, "finish_reason": None}


def chat_end(index: int, finish_reason: str) -> Json:
    """The last piece of a choice: why it ends."""
    return {"index": index, "delta": {}, "logprobs": None, "finish_reason": finish_reason}


def text_choice(index: int, text: str, logprobs: Logprobs | None, finish_reason: str | None) -> Json:
    """A choice of a completion, whole or a piece."""
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
