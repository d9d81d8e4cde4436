"""The worker's side: an engine that answers a benchmark's requests one after another.

Runs under the interpreter of either engine, so it needs NumPy and the standard library only.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bench.channel import Channel, ChannelClosed, Message


def worker_parser() -> argparse.ArgumentParser:
    """Of what every worker is told: its model, and how many threads it has."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    return parser


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


class EncoderEngine(Protocol):
    """An encoder with a model loaded."""

    @property
    def info(self) -> EngineInfo:
        """What runs."""
        ...

    def prepare(self, batch: Sequence[Sequence[int]]) -> Callable[[], npt.NDArray[np.float32]]:
        """What embeds a batch of token ids when it is called: ``[n, C]``, the caller's to keep. Inputs are laid out by
        then as the engine takes them.
        """
        ...


def serve(engine: BenchEngine, channel: Channel) -> None:
    """Answer until the other end closes."""
    _serve(engine.info, channel, lambda request: _answer(engine, channel, request))


def serve_encoder(engine: EncoderEngine, channel: Channel) -> None:
    """The same for an encoder."""
    _serve(engine.info, channel, lambda request: _answer_encoder(engine, channel, request))


def _serve(info: EngineInfo, channel: Channel, answer: Callable[[Message], None]) -> None:
    channel.send(asdict(info))
    try:
        while True:
            answer(channel.receive())
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


def _answer_encoder(engine: EncoderEngine, channel: Channel, request: Message) -> None:
    if request.text("op") != "embed":
        raise ValueError(f"op: expected embed, got {request.text('op')!r}")
    sequences, size = request.token_lists("prompts"), request.integer("batch_size")
    batches = [engine.prepare(sequences[start : start + size]) for start in range(0, len(sequences), size)]
    begin = time.perf_counter()
    parts = [embed() for embed in batches]
    seconds = time.perf_counter() - begin
    rows = np.concatenate(parts).astype(np.float32, copy=False)
    channel.send({"seconds": seconds, "shape": list(rows.shape)}, rows.tobytes())
