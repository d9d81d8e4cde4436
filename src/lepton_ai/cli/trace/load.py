"""The mixed load of ``lepton bench --trace``: what an engine meets, in a few seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lepton_ai.backends.base import Int32Array
from lepton_ai.cli.random_prompts import RandomPrompts
from lepton_ai.engine.llm import LLM
from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.stream import Stream
from lepton_ai.engine.trace import StepTrace

MAX_MODEL_LEN = 2048
"""Tokens of the context that the load fills, if the model has as many."""
MAX_NUM_SEQS = 6
"""Seats: fewer than requests at the busiest time, so that some wait and one is pre-empted."""

_UNITS = 64
_MAX_GAP_STEPS = 8


@dataclass(frozen=True, slots=True)
class _Kind:
    """Lengths of prompts are in 64ths of the context; output tokens are drawn between two numbers."""

    name: str
    prompt_units: int
    output_tokens: tuple[int, int]
    prefix_units: int = 0
    priority: int = 0


_LONG = _Kind("long", 40, (16, 32))
_CHAT = _Kind("shared prefix", 2, (32, 64), prefix_units=12)
_SHORT = _Kind("short", 1, (48, 96))
_URGENT = _Kind("urgent", 1, (16, 32), priority=-1)
_KINDS = (_SHORT, _LONG, _CHAT, _CHAT, _SHORT, _LONG, _CHAT, _SHORT, _URGENT, _CHAT, _LONG, _SHORT)


@dataclass(frozen=True, slots=True, eq=False)
class LoadRequest:
    """A request that is sent after ``arrival_step`` steps of the engine, or before if that has nothing to do."""

    name: str
    arrival_step: int
    prompt: Int32Array
    params: SamplingParams
    options: RequestOptions


def mixed_load(prompts: RandomPrompts, max_model_len: int, seed: int) -> list[LoadRequest]:
    """Twelve requests in order of arrival: long and short prompts, four that share a beginning, an urgent one.

    They arrive by steps, not by seconds: the engine then meets the same load on a fast machine and on a slow one.
    """
    rng = np.random.default_rng(seed)
    unit = max(1, max_model_len // _UNITS)
    prefix = prompts.draw(unit * max(kind.prefix_units for kind in _KINDS))
    requests, arrival_step = [], 0
    for kind in _KINDS:
        prompt = np.concatenate([prefix[: unit * kind.prefix_units], prompts.draw(unit * kind.prompt_units)])
        wanted = int(rng.integers(*kind.output_tokens, endpoint=True))
        num_output_tokens = max(1, min(wanted, max_model_len - len(prompt)))
        params = SamplingParams(temperature=0.0, max_tokens=num_output_tokens, ignore_eos=True)
        options = RequestOptions(priority=kind.priority)
        requests.append(LoadRequest(kind.name, arrival_step, prompt, params, options))
        arrival_step += int(rng.integers(_MAX_GAP_STEPS, endpoint=True))
    return requests


def run_load(llm: LLM, requests: Sequence[LoadRequest]) -> list[StepTrace]:
    """The steps of the engine while these requests come and are answered; one of its own before warms it up."""
    _warm_up(llm, max((request.prompt for request in requests), key=len))
    steps: list[StepTrace] = []
    arrivals = _Arrivals(llm.stream, requests)

    def observe(step: StepTrace) -> None:
        steps.append(step)
        arrivals.submit(num_steps=len(steps))

    with llm.trace(observe):
        while arrivals.has_next:
            arrivals.submit_next()
            for stream in arrivals.streams:  # grows meanwhile
                for _ in stream:
                    pass
            arrivals.streams.clear()
    return steps


class _Arrivals:
    """Sends the requests whose time has come."""

    def __init__(self, send: Callable[..., Stream], requests: Sequence[LoadRequest]) -> None:
        self.streams: list[Stream] = []
        self._send = send
        self._waiting = list(reversed(requests))

    @property
    def has_next(self) -> bool:
        """Whether any is left."""
        return bool(self._waiting)

    def submit(self, *, num_steps: int) -> None:
        """Send those that arrive after so many steps."""
        while self._waiting and self._waiting[-1].arrival_step <= num_steps:
            self.submit_next()

    def submit_next(self) -> None:
        """Send one."""
        request = self._waiting.pop()
        self.streams.append(self._send(request.prompt, request.params, options=request.options))


def _warm_up(llm: LLM, prompt: Int32Array) -> None:
    """Touches weights and memory, and starts the threads. Backwards, so that no prefix of the load is in the cache."""
    llm.generate([prompt[::-1]], SamplingParams(temperature=0.0, max_tokens=2, ignore_eos=True))
