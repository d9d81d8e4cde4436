"""Builds ``SamplingInputs`` in arrays made once; a row is rewritten only when its request changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lepton_ai.backends.base import SamplingInputs
from lepton_ai.engine.request import Request


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
        self._history_offsets = np.zeros(max_rows + 1, np.int32)
        self._num_prompt_tokens = np.zeros(max_rows, np.int32)
        self._history = np.zeros(256, np.int32)
        self._draw_view, self._offset_view = self._draws.data, self._history_offsets.data
        self._has_penalties = False  # one of the rows of the last call has them
        # A steady decode step has the sizes of the one before it, and so the same views.
        self._sizes, self._inputs = (0, 0), self._views(0, 0)

    def build(self, requests: Sequence[Request]) -> SamplingInputs:
        """The inputs for one row of each request, in order. Views: valid until the next call.

        It is the object of the last call if the rows belong to the same requests and the sizes are the same.
        """
        is_same = len(requests) == self._sizes[0]
        for row, request in enumerate(requests):
            self._draw_view[row] = request.num_tokens
            if self._rows[row] is not request:
                self._write_row(row, request)
                is_same = False
        if is_same and not self._has_penalties:
            return self._inputs
        self._has_penalties = any(request.params.has_penalties for request in requests)
        sizes = (len(requests), self._write_history(requests))
        if not is_same or self._sizes != sizes:
            self._sizes, self._inputs = sizes, self._views(*sizes)
        return self._inputs

    def _views(self, count: int, history_size: int) -> SamplingInputs:
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
            history=self._history[:history_size],
            history_offsets=self._history_offsets[: count + 1],
            num_prompt_tokens=self._num_prompt_tokens[:count],
        )

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

    def _write_history(self, requests: Sequence[Request]) -> int:
        """Lay out the tokens of the rows that have penalties; returns how many there are."""
        total = 0
        for row, request in enumerate(requests):
            self._offset_view[row] = total
            if request.params.has_penalties:
                end = total + request.num_tokens
                if end > len(self._history):
                    self._history = np.resize(self._history, 2 * end)
                self._history[total:end] = request.tokens[: request.num_tokens]
                total = end
        self._offset_view[len(requests)] = total
        return total
