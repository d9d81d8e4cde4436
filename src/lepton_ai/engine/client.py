"""What callers of an engine see of it, wherever it runs: in their process, or in one of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lepton_ai.backends.base import Int32Array
from lepton_ai.engine.generation import Generation
from lepton_ai.engine.outputs import Chunk
from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.stats import EngineStats
from lepton_ai.errors import InvalidRequest, LeptonError


class EngineClient(Protocol):
    """Submit, take chunks, cancel: each from any thread. A generation belongs to the client that made it."""

    def submit(
        self,
        prompt_ids: Sequence[int] | Int32Array,
        params: SamplingParams,
        options: RequestOptions | None = None,
    ) -> Generation:
        """Queue one generation. Raises what ``Engine.make_request`` raises, InvalidRequest if ``params`` ask for
        several or for a constraint that does not compile."""
        check_single(params)
        (generation,) = self.submit_all([prompt_ids], [params], options)
        return generation

    def submit_all(
        self,
        prompts: Sequence[Sequence[int] | Int32Array],
        params: Sequence[SamplingParams],
        options: RequestOptions | None = None,
    ) -> Sequence[Generation]:
        """Queue several, ``num_generations`` for each prompt in turn, or none if one is refused.

        ``options`` hold for all.
        """
        ...

    def next_chunk(self, generation: Generation) -> Chunk | None:
        """Wait for the next piece; None after the last. Raises LeptonError if the engine failed under it."""
        ...

    async def next_chunk_async(self, generation: Generation) -> Chunk | None:
        """The same for a coroutine. One that is cancelled while it waits cancels the generation."""
        ...

    def cancel(self, generation: Generation) -> None:
        """Ask for the end of a generation, which then gets a last chunk. Never waits."""
        ...

    def fail(self, generation: Generation, error: LeptonError) -> None:
        """End a generation: who has taken the chunks that are there gets ``error``. One that has ended is left alone.

        Waits at most for the step under way.
        """
        ...

    def close_generation(self, generation: Generation) -> None:
        """End a generation, and free all it holds; wait at most for the step under way."""
        ...

    def stats(self) -> EngineStats:
        """Counts and state, from any thread."""
        ...

    def check_integrity(self) -> None:
        """Assert the engine's invariants, between two steps."""
        ...

    def close(self) -> None:
        """Cancel everything; afterwards each use raises InvalidRequest."""
        ...


def check_single(params: SamplingParams) -> None:
    """Raise InvalidRequest if ``params`` ask for several completions."""
    if params.num_generations > 1:
        name = "n" if params.n > 1 else "best_of"
        raise InvalidRequest(f"{name}: a stream is of one completion, got {params.num_generations}", param=name)
