"""Builds ``SamplingInputs`` in arrays made once; a row is rewritten only when its request changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from lepton_ai.backends.base import Int32Array, SamplingInputs
from lepton_ai.engine.request import Biases, Request

ScalarT = TypeVar("ScalarT", np.int32, np.float32)

_NO_HISTORY: Int32Array = np.zeros(0, np.int32)
_NO_MASKS: Int32Array = np.zeros((0, 0), np.int32)


class _Runs(Generic[ScalarT]):
    """Runs of values, one for each row, end to end in an array that grows."""

    def __init__(self, dtype: type[ScalarT], max_rows: int) -> None:
        self._values: npt.NDArray[ScalarT] = np.zeros(256, dtype)
        self.offsets = np.zeros(max_rows + 1, np.int32)
        self._offset_view = self.offsets.data
        self.size = 0

    def write(self, runs: Sequence[npt.NDArray[ScalarT]]) -> None:
        """Lay out one run for each row."""
        self.size = 0
        for row, run in enumerate(runs):
            self._offset_view[row] = self.size
            if len(run):
                end = self.size + len(run)
                if end > len(self._values):
                    self._values = np.resize(self._values, 2 * end)
                self._values[self.size : end] = run
                self.size = end
        self._offset_view[len(runs)] = self.size

    def append_empty(self, first: int, stop: int) -> None:
        """Rows ``first ... stop-1``, after all others, have no values."""
        self.offsets[first + 1 : stop + 1] = self.size

    def values(self) -> npt.NDArray[ScalarT]:
        """All runs. A view."""
        return self._values[: self.size]


class SamplingInputsBuilder:
    """At most ``max_rows`` rows a step."""

    def __init__(self, max_rows: int) -> None:
        self._rows: list[Request | None] = [None] * max_rows
        self._temperature = np.zeros(max_rows, np.float32)
        self._top_k = np.zeros(max_rows, np.int32)
        self._top_p = np.zeros(max_rows, np.float32)
        self._min_p = np.zeros(max_rows, np.float32)
        self._repetition_penalty = np.zeros(max_rows, np.float32)
        self._presence_penalty = np.zeros(max_rows, np.float32)
        self._frequency_penalty = np.zeros(max_rows, np.float32)
        self._seeds = np.zeros(max_rows, np.uint64)
        self._draws = np.zeros(max_rows, np.uint64)
        self._num_logprobs = np.zeros(max_rows, np.int32)
        self._num_prompt_tokens = np.zeros(max_rows, np.int32)
        self._mask_rows = np.full(max_rows, -1, np.int32)
        self._forced_ids = np.full(max_rows, -1, np.int32)
        self._history = _Runs(np.int32, max_rows)
        self._bias_ids = _Runs(np.int32, max_rows)
        self._bias_values = _Runs(np.float32, max_rows)
        self._draw_view = self._draws.data
        self._has_penalties = False  # one of the rows of the last call has them
        self._has_masks = False
        self._biases: list[Biases] = []  # of those rows
        self._masks = _NO_MASKS
        # A steady decode step has the sizes of the one before it, and so the same views.
        self._sizes, self._inputs = (0, 0, 0), self._views(0)

    def build(self, requests: Sequence[Request], scored: Sequence[tuple[Request, range]] = ()) -> SamplingInputs:
        """The inputs for one row of each request, in order. Views: valid until the next call.

        It is the object of the last call if the rows belong to the same requests and the sizes are the same. Rows of
        ``scored``, requests with the positions whose next token is known, follow in an object of their own.
        """
        inputs = self._sampled(requests)
        return self._with_scored(len(requests), scored) if scored else inputs

    def _sampled(self, requests: Sequence[Request]) -> SamplingInputs:
        is_same = len(requests) == self._sizes[0]
        for row, request in enumerate(requests):
            self._draw_view[row] = request.num_tokens
            if self._rows[row] is not request:
                self._write_row(row, request)
                is_same = False
        biases = [request.current_biases for request in requests]
        if self._has_masks or not is_same:
            self._write_masks(requests)
        if is_same and not self._has_penalties and biases == self._biases:
            return self._inputs
        self._has_penalties = any(request.params.has_penalties for request in requests)
        self._history.write([_history(request) for request in requests])
        if biases != self._biases:
            self._bias_ids.write([b.ids for b in biases])
            self._bias_values.write([b.values for b in biases])
            self._biases = biases
        sizes = (len(requests), self._history.size, self._bias_ids.size)
        if not is_same or self._sizes != sizes:
            self._sizes, self._inputs = sizes, self._views(len(requests))
        return self._inputs

    def _with_scored(self, num_sampled: int, scored: Sequence[tuple[Request, range]]) -> SamplingInputs:
        stop = num_sampled
        for request, positions in scored:
            first, stop = stop, stop + len(positions)
            self._rows[first:stop] = [None] * len(positions)
            self._forced_ids[first:stop] = request.tokens[positions.start + 1 : positions.stop + 1]
            self._num_logprobs[first:stop] = request.params.prompt_logprobs or 0
        self._num_prompt_tokens[num_sampled:stop] = 0
        self._mask_rows[num_sampled:stop] = -1
        self._history.append_empty(num_sampled, stop)
        self._bias_ids.append_empty(num_sampled, stop)
        return self._views(stop)

    def _views(self, count: int) -> SamplingInputs:
        return SamplingInputs(
            temperature=self._temperature[:count],
            top_k=self._top_k[:count],
            top_p=self._top_p[:count],
            min_p=self._min_p[:count],
            repetition_penalty=self._repetition_penalty[:count],
            presence_penalty=self._presence_penalty[:count],
            frequency_penalty=self._frequency_penalty[:count],
            seeds=self._seeds[:count],
            draws=self._draws[:count],
            num_logprobs=self._num_logprobs[:count],
            history=self._history.values(),
            history_offsets=self._history.offsets[: count + 1],
            num_prompt_tokens=self._num_prompt_tokens[:count],
            bias_ids=self._bias_ids.values(),
            bias_values=self._bias_values.values(),
            bias_offsets=self._bias_ids.offsets[: count + 1],
            mask_rows=self._mask_rows[:count],
            token_masks=self._masks,
            forced_ids=self._forced_ids[:count],
        )

    def _write_masks(self, requests: Sequence[Request]) -> None:
        """One mask for each row that has one, in a table that grows; sizes change with rows alone."""
        matchers = [request.matcher for request in requests]
        self._has_masks = any(matchers)
        if not self._has_masks:
            self._mask_rows[: len(requests)] = -1
            return
        num_words = next(len(m.mask) for m in matchers if m is not None)
        if self._masks.shape != (len(self._mask_rows), num_words):
            self._masks = np.zeros((len(self._mask_rows), num_words), np.int32)
        for row, matcher in enumerate(matchers):
            self._mask_rows[row] = -1 if matcher is None else row
            if matcher is not None:
                self._masks[row] = matcher.mask

    def _write_row(self, row: int, request: Request) -> None:
        params = request.params
        self._rows[row] = request
        self._temperature[row] = params.temperature
        self._top_k[row] = params.top_k
        self._top_p[row] = params.top_p
        self._min_p[row] = params.min_p
        self._repetition_penalty[row] = params.repetition_penalty
        self._presence_penalty[row] = params.presence_penalty
        self._frequency_penalty[row] = params.frequency_penalty
        self._seeds[row] = request.seed
        self._num_logprobs[row] = params.logprobs or 0
        self._num_prompt_tokens[row] = request.num_prompt_tokens if params.has_penalties else 0
        self._forced_ids[row] = -1


def _history(request: Request) -> Int32Array:
    """The tokens that penalties count; none where there are no penalties."""
    return request.tokens[: request.num_tokens] if request.params.has_penalties else _NO_HISTORY
