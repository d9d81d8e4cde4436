"""One streamed answer: written as it comes, timed, and stopped by Ctrl-C within a step."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from lepton_ai.engine.outputs import Chunk, Completion, join_chunks
from lepton_ai.engine.stream import Stream
from lepton_ai.phases import Phase, PhaseObserver


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion with its times; one is None if there were too few tokens to take it."""

    completion: Completion
    time_to_first_token_s: float | None
    decode_tokens_per_s: float | None

    def summary(self) -> str:
        """The line that ends ``lepton run --prompt``."""
        if self.time_to_first_token_s is None:
            return "stopped before the first token"
        rate = "" if self.decode_tokens_per_s is None else f", {self.decode_tokens_per_s:.1f} tokens/s"
        count = self.completion.usage.completion_tokens
        return f"{count} tokens, time to first token {self.time_to_first_token_s:.3f} s{rate}"

    def to_dict(self) -> dict[str, object]:
        """For ``--json``."""
        usage = self.completion.usage
        return {
            "text": self.completion.text,
            "finish_reason": self.completion.finish_reason,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cached_tokens": usage.cached_tokens,
            "time_to_first_token_s": self.time_to_first_token_s,
            "decode_tokens_per_s": self.decode_tokens_per_s,
        }


def take_answer(
    start_stream: Callable[[], Stream], write: Callable[[str], None], on_phase: PhaseObserver | None = None
) -> Answer:
    """Start a stream and take it to its end; ``write`` gets each piece of text. Ctrl-C cancels it.

    ``on_phase`` is told of the time from the start of the stream to the first token.
    """
    started = first = last = time.perf_counter()
    chunks: list[Chunk] = []
    stream = start_stream()
    waiting_since = time.perf_counter()
    with stream, cancel_on_interrupt(stream):
        for chunk in stream:
            last = time.perf_counter()
            if not chunks:
                first = last
                if on_phase:
                    on_phase(Phase("first step", waiting_since, first))
            chunks.append(chunk)
            if chunk.text:
                write(chunk.text)
    completion = join_chunks(chunks)
    count = completion.usage.completion_tokens
    rate = (count - 1) / (last - first) if count > 1 and last > first else None
    return Answer(completion, first - started if count else None, rate)


@contextmanager
def cancel_on_interrupt(stream: Stream) -> Iterator[None]:
    """Within, the first Ctrl-C cancels ``stream``, and a second one interrupts as usual."""

    previous = signal.getsignal(signal.SIGINT)

    def cancel(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, previous)
        stream.cancel()

    signal.signal(signal.SIGINT, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def write_text(text: str) -> None:
    """Write a piece of an answer at once. A terminal gets no control characters: a model may emit any."""
    if sys.stdout.isatty():
        text = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
    sys.stdout.write(text)
    sys.stdout.flush()
