"""What a request has used, for the limits of its key and for the access log."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request

from lepton_ai.engine.stream import Stream


class Tally:
    """Filled by a request's route. What is watched counts as far as it has come, also when the client has left."""

    def __init__(self) -> None:
        self.model: str | None = None
        self.is_streamed: bool | None = None
        self._num_prompt_tokens = 0
        self._groups: list[Sequence[Stream]] = []

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of all prompts, each counted once."""
        return self._num_prompt_tokens + sum(group[0].num_prompt_tokens for group in self._groups)

    @property
    def num_completion_tokens(self) -> int:
        """Tokens that were sampled, whether or not they were sent."""
        return sum(stream.num_output_tokens for group in self._groups for stream in group)

    @property
    def num_tokens(self) -> int:
        """All of them."""
        return self.num_prompt_tokens + self.num_completion_tokens

    def begin(self, model: str, *, is_streamed: bool = False) -> None:
        """Say what the request is. ``model`` is the name of one that is served."""
        self.model, self.is_streamed = model, is_streamed

    def watch(self, streams: Sequence[Stream]) -> None:
        """Count the completions of one prompt, which the engine has taken."""
        if streams:
            self._groups.append(streams)

    def add_prompt(self, num_tokens: int) -> None:
        """Count a text that nothing is generated for."""
        self._num_prompt_tokens += num_tokens


def tally_of(request: Request) -> Tally:
    """That of the request."""
    tally = request.state.tally
    assert isinstance(tally, Tally)
    return tally
