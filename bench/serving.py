"""The worker's side: an engine that answers a benchmark's requests one after another.

Runs under the interpreter of either engine, so it needs NumPy and the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bench.channel import Channel, ChannelClosed, Message


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What runs. ``fingerprint`` changes with the engine's arithmetic: measured qualities are kept under it."""

    name: str
    version: str
    isa: str
    num_threads: int
    fingerprint: str


class BenchEngine(Protocol):
    """An engine with a model loaded."""

    @property
    def info(self) -> EngineInfo:
        """What runs."""
        ...

    def prefill(self, prompt: Sequence[int]) -> float:
        """Seconds from a prompt that was never seen to the logits (and greedy token) after it."""
        ...

    def decode(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> float:
        """Seconds of ``num_tokens`` decoding steps of all prompts together, after their prefill."""
        ...

    def logits(self, token_ids: Sequence[int]) -> Iterator[npt.NDArray[np.float32]]:
        """Logits after each token, in pieces ``[n, V]``."""
        ...


def serve(engine: BenchEngine, channel: Channel) -> None:
    """Answer until the other end closes."""
    channel.send(asdict(engine.info))
    try:
        while True:
            _answer(engine, channel, channel.receive())
    except ChannelClosed:
        return


def _answer(engine: BenchEngine, channel: Channel, request: Message) -> None:
    match request.text("op"):
        case "prefill":
            (prompt,) = request.token_lists("prompts")
            channel.send({"seconds": engine.prefill(prompt)})
        case "decode":
            seconds = engine.decode(request.token_lists("prompts"), request.integer("num_tokens"))
            channel.send({"seconds": seconds})
        case "logits":
            (token_ids,) = request.token_lists("prompts")
            for piece in engine.logits(token_ids):
                channel.send({"shape": list(piece.shape)}, np.ascontiguousarray(piece, np.float32).tobytes())
            channel.send({"shape": [0, 0]})
        case other:
            raise ValueError(f"op: expected prefill, decode or logits, got {other!r}")
