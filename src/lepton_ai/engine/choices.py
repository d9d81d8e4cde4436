"""Several completions of one prompt, and which of them are given."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lepton_ai.engine.outputs import Completion
from lepton_ai.engine.sampling_params import SamplingParams


def as_run(params: SamplingParams) -> SamplingParams:
    """The parameters that generations run with: the best can only be chosen by log-probabilities."""
    needs_logprobs = params.num_generations > params.n and params.logprobs is None
    return replace(params, logprobs=0) if needs_logprobs else params


def chosen(completions: Iterator[Completion], each: Sequence[SamplingParams]) -> list[Completion]:
    """Of ``num_generations`` completions for each of some prompts, the ``n`` that are given, prompt after prompt."""
    given: list[Completion] = []
    for params in each:
        made = [next(completions) for _ in range(params.num_generations)]
        if len(made) > params.n:
            made = sorted(made, key=_mean_logprob, reverse=True)[: params.n]
        given += made if params.logprobs is not None else [replace(c, logprobs=None) for c in made]
    return given


def _mean_logprob(completion: Completion) -> float:
    logprobs = [entry.logprob for entry in completion.logprobs or ()]
    return math.fsum(logprobs) / len(logprobs) if logprobs else -math.inf
