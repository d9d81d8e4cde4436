"""An iterator over the chunks of one generation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType

from lepton_ai.engine.client import EngineClient
from lepton_ai.engine.generation import Generation
from lepton_ai.engine.outputs import Chunk
from lepton_ai.errors import LeptonError


class Stream(Iterator[Chunk]):
    """Chunks as they are made. Leaving early cancels the request: by ``close``, ``with``, or dropping the stream.

    In ``async for`` the event loop goes on while a step runs. Taking a chunk raises LeptonError if a step failed.
    """

    def __init__(self, client: EngineClient, generation: Generation) -> None:
        self._client = client
        self._generation = generation
        self._on_leave: Callable[[], None] | None = None

    def __next__(self) -> Chunk:
        chunk = self._client.next_chunk(self._generation)
        if chunk is None:
            raise StopIteration
        return chunk

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Chunk:
        chunk = await self._client.next_chunk_async(self._generation)
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return self._generation.num_prompt_tokens

    @property
    def num_output_tokens(self) -> int:
        """Tokens that were sampled, whether or not their chunks were taken."""
        return self._generation.num_output_tokens

    def cancel(self) -> None:
        """Ask for the end; the iterator then gives a last chunk. Never waits: a signal handler may call it."""
        self._client.cancel(self._generation)
        self._leave()

    def fail(self, error: LeptonError) -> None:
        """End it: taking a chunk, after those that are there, raises ``error``.

        Waits at most for the step under way.
        """
        self._client.fail(self._generation, error)

    def on_leave(self, call: Callable[[], None]) -> None:
        """Have ``call`` called once when the reader leaves: by ``cancel``, ``close``, or when the stream is dropped.

        That may be in any thread, in the middle of a garbage collection: ``call`` must not wait.
        """
        self._on_leave = call

    def close(self) -> None:
        """Cancel, and free all that the request holds. Waits at most for the step under way."""
        self._client.close_generation(self._generation)
        self._leave()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # A garbage collection may run inside a step, so this must not wait for its end.
        self.cancel()

    def _leave(self) -> None:
        call, self._on_leave = self._on_leave, None
        if call is not None:
            call()
