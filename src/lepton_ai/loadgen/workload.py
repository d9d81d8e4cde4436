"""What is asked of a server: requests one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from lepton_ai.loadgen.target import LoadRequest


class Workload(Protocol):
    """A source of requests that does not end."""

    def next_request(self) -> LoadRequest:
        """The next one."""

    def largest_request(self) -> LoadRequest:
        """One that needs as much room as any: whether a server takes it says whether it takes all."""


def encode_request(
    path: str, model: str, fields: Mapping[str, object], *, max_tokens: int, ignore_eos: bool
) -> LoadRequest:
    """A request whose answer is streamed and ends with its usage. ``ignore_eos`` is no field of the original's, and is
    left out if it is not wanted."""
    body = {
        "model": model,
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        **({"ignore_eos": True} if ignore_eos else {}),
        **fields,
    }
    return LoadRequest(path, msgspec.json.encode(body), max_tokens)


def chat_of(text: str) -> Sequence[Mapping[str, str]]:
    """A conversation of one message."""
    return [{"role": "user", "content": text}]
