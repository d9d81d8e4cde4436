"""What a caller may say about one generation, validated when it is said."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lepton_ai.backends.base import MAX_LOGPROBS
from lepton_ai.engine.constraints.constraint import Constraint
from lepton_ai.errors import InvalidRequest

MAX_BIASES = 300
MAX_STOP_STRINGS = 64
MAX_STOP_IDS = 1024

_MAX_INT32 = 2**31 - 1
_MAX_STOP_CHARACTERS = 1024
_MAX_CHOICES = 64
_MAX_BIAS = 100.0
_MAX_UINT64 = 2**64 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How tokens are chosen and when a generation ends. Every field is obeyed; a bad one raises InvalidRequest.

    ``temperature`` is 0, which is greedy, or from 1e-6 to 100. ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 are off;
    ``top_p`` is above 0 and at most 1, ``min_p`` from 0 to 1. ``repetition_penalty`` (Keskar et al. 2019), above 0 and
    at most 100, counts prompt and output; ``presence_penalty`` and ``frequency_penalty``, from -2 to 2, count the
    output only. Equal ``seed`` and prompt give equal tokens, whatever else runs; None draws a fresh seed. ``stop``
    strings, at most 64, and ``stop_token_ids``, at most 1,024, end a generation beside the model's own end tokens,
    which ``ignore_eos`` switches off; before ``min_tokens`` tokens neither they nor stop strings end it. ``max_tokens``
    None means: until the context is full. ``logprobs``, from 0 to 20, asks for the log-probability of each token and
    that many alternatives; ``prompt_logprobs`` for those of the prompt's tokens after the first. With it ``max_tokens``
    may be 0: the prompt is scored, nothing is chosen.
    ``logit_bias`` adds to the logits of up to 300 token ids, -100 to 100; -100 and 100 as good as forbid and force.
    ``n`` completions are made of a prompt, which is computed once; number ``i`` of them with the seed ``seed + i``. Of
    ``best_of``, the ``n`` with the highest mean log-probability of a token are given. At most 64 of either.
    ``constraint`` says what a completion must look like; ``min_tokens`` cannot be asked for beside it.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: str | Iterable[str] = ()
    stop_token_ids: Iterable[int] = ()
    max_tokens: int | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    ignore_eos: bool = False
    min_tokens: int = 0
    logit_bias: Mapping[int, float] | None = None
    n: int = 1
    best_of: int | None = None
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        self._set_float("temperature", 0.0, 100.0)
        if 0.0 < self.temperature < 1e-6:
            raise InvalidRequest(
                f"temperature: expected 0 (greedy) or at least 1e-06, got {self.temperature!r}", param="temperature"
            )
        self._set_float("top_p", 0.0, 1.0, above_low=True)
        self._set_float("min_p", 0.0, 1.0)
        self._set_float("repetition_penalty", 0.0, 100.0, above_low=True)
        self._set_float("presence_penalty", -2.0, 2.0)
        self._set_float("frequency_penalty", -2.0, 2.0)
        self._set_int("top_k", 0, _MAX_INT32)
        self._set_optional_int("seed", 0, _MAX_UINT64)
        self._set_optional_int("logprobs", 0, MAX_LOGPROBS)
        self._set_optional_int("prompt_logprobs", 0, MAX_LOGPROBS)
        self._set_optional_int("max_tokens", 1 if self.prompt_logprobs is None else 0, _MAX_INT32)
        self._set_int("min_tokens", 0, _MAX_INT32)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InvalidRequest(
                f"min_tokens: expected at most max_tokens, {self.max_tokens}, got {self.min_tokens}", param="min_tokens"
            )
        self._set_int("n", 1, _MAX_CHOICES)
        self._set_optional_int("best_of", self.n, _MAX_CHOICES)
        if self.constraint is not None and not isinstance(self.constraint, Constraint):
            raise InvalidRequest(f"constraint: expected a Constraint, got {self.constraint!r}", param="constraint")
        if self.constraint is not None and self.min_tokens:
            raise InvalidRequest(
                f"min_tokens: expected 0 beside a constraint, got {self.min_tokens}", param="min_tokens"
            )
        if not isinstance(self.ignore_eos, bool):
            raise InvalidRequest(f"ignore_eos: expected a boolean, got {self.ignore_eos!r}", param="ignore_eos")
        object.__setattr__(self, "stop", _stop_strings(self.stop))
        object.__setattr__(self, "stop_token_ids", _stop_ids(self.stop_token_ids))
        object.__setattr__(self, "logit_bias", _logit_bias(self.logit_bias))

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """``stop`` as a tuple."""
        assert isinstance(self.stop, tuple)
        return self.stop

    @property
    def num_generations(self) -> int:
        """Completions that are made of a prompt."""
        return self.n if self.best_of is None else self.best_of

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """``stop_token_ids`` as a tuple."""
        assert isinstance(self.stop_token_ids, tuple)
        return self.stop_token_ids

    @property
    def has_penalties(self) -> bool:
        """Whether the choice of a token depends on the tokens before it."""
        return self.repetition_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0

    def _set_float(self, name: str, low: float, high: float, *, above_low: bool = False) -> None:
        value = getattr(self, name)
        is_number = isinstance(value, (float, numbers.Real)) and not isinstance(value, bool)
        number = float(value) if is_number else math.nan
        if not low <= number <= high or (above_low and number == low):
            bracket = "(" if above_low else "["
            expected = f"{name}: expected a number in {bracket}{low:g}, {high:g}], got {value!r}"
            raise InvalidRequest(expected, param=name)
        object.__setattr__(self, name, number)

    def _set_int(self, name: str, low: int, high: int) -> None:
        object.__setattr__(self, name, _checked_int(name, getattr(self, name), low, high))

    def _set_optional_int(self, name: str, low: int, high: int) -> None:
        if getattr(self, name) is not None:
            self._set_int(name, low, high)


def _checked_int(name: str, value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, numbers.Integral)) or not low <= int(value) <= high:
        raise InvalidRequest(f"{name}: expected an integer in [{low}, {high}], got {value!r:.40}", param=name)
    return int(value)


def _stop_strings(stop: object) -> tuple[str, ...]:
    if isinstance(stop, str):
        stop = (stop,)
    if not isinstance(stop, Iterable):
        raise InvalidRequest(f"stop: expected a string or several, got {stop!r}", param="stop")
    strings = tuple(stop)
    if len(strings) > MAX_STOP_STRINGS:
        raise InvalidRequest(f"stop: expected at most {MAX_STOP_STRINGS} strings, got {len(strings)}", param="stop")
    for text in strings:
        if not isinstance(text, str) or not 0 < len(text) <= _MAX_STOP_CHARACTERS:
            raise InvalidRequest(
                f"stop: expected strings of 1 to {_MAX_STOP_CHARACTERS} characters, got {text!r:.40}", param="stop"
            )
    return strings


def _stop_ids(ids: object) -> tuple[int, ...]:
    if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
        raise InvalidRequest(f"stop_token_ids: expected integers, got {ids!r}", param="stop_token_ids")
    checked = tuple(_checked_int("stop_token_ids", i, 0, _MAX_INT32) for i in ids)
    if len(checked) > MAX_STOP_IDS:
        raise InvalidRequest(
            f"stop_token_ids: expected at most {MAX_STOP_IDS} ids, got {len(checked)}", param="stop_token_ids"
        )
    return checked


def _logit_bias(biases: object) -> Mapping[int, float] | None:
    if biases is None:
        return None
    if not isinstance(biases, Mapping) or len(biases) > MAX_BIASES:
        raise InvalidRequest(
            f"logit_bias: expected a mapping of at most {MAX_BIASES} token ids to numbers", param="logit_bias"
        )
    return {
        _checked_int("logit_bias", token_id, 0, _MAX_INT32): _checked_bias(token_id, bias)
        for token_id, bias in biases.items()
    }


def _checked_bias(token_id: object, bias: object) -> float:
    is_number = isinstance(bias, numbers.Real) and not isinstance(bias, bool)
    if not is_number or not abs(float(bias)) <= _MAX_BIAS:  # type: ignore[arg-type]
        raise InvalidRequest(
            f"logit_bias: expected a number in [-100, 100] for token {token_id}, got {bias!r}", param="logit_bias"
        )
    return float(bias)  # type: ignore[arg-type]
