"""``/v1/completions``: the request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.protocol.base import Prompt, SamplingFields, Texts, as_several

_DEFAULT_MAX_TOKENS = 16
"""The original's, of this route alone."""

_MAX_COMPLETIONS = 256
"""Of one request."""


class CompletionRequest(SamplingFields):
    """Texts to continue: one, several, or their token ids. ``echo`` gives the prompt back, before its continuation."""

    prompt: Texts
    max_tokens: int | None = None
    best_of: int | None = None
    echo: bool | None = None
    logprobs: int | None = None

    unsupported: ClassVar[Mapping[str, str]] = {"suffix": "models here do not fill gaps"}

    @property
    def prompts(self) -> list[Prompt]:
        """One or several."""
        return as_several(self.prompt)

    def params(self, defaults: SamplingParams) -> SamplingParams:
        """How to sample. Raises InvalidRequest, naming the field."""
        if self.is_streamed and self.best_of is not None and self.best_of > (self.n or 1):
            raise InvalidRequest("best_of: expected at most n in a stream", param="best_of")
        max_tokens = _DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens
        of_prompt = self.logprobs if self.echo else None
        if max_tokens == 0 and of_prompt is None:
            of_prompt = 0  # nothing is chosen, and the prompt is read all the same
            if not self.echo:
                raise InvalidRequest("max_tokens: expected at least 1 without echo", param="max_tokens")
        made = self.sampling(
            defaults, max_tokens=max_tokens, logprobs=self.logprobs, prompt_logprobs=of_prompt, best_of=self.best_of
        )
        num_completions = len(self.prompts) * made.num_generations
        if num_completions > _MAX_COMPLETIONS:
            raise InvalidRequest(
                f"prompt: expected at most {_MAX_COMPLETIONS} completions of all prompts, got {num_completions}",
                param="prompt",
            )
        return made
