"""Runs a plan: the only module of the engine that touches a device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lepton_ai.backends.base import (
    Executable,
    Int32Array,
    KVCache,
    KVGroupInputs,
    SampledTokens,
    SamplingInputs,
    StepInputs,
)
from lepton_ai.config import Limits
from lepton_ai.engine.kv.group import num_blocks_for
from lepton_ai.engine.plan import ScheduledSequence, StepPlan
from lepton_ai.engine.sampling_inputs import SamplingInputsBuilder


class BlockTableArray:
    """Block tables of one KV group as ``[max_seqs, max_blocks]`` i32.

    Row ``s`` mirrors a list of the scheduler. Lists only grow, so a row whose list is the same object as in the last
    step needs the new end alone.
    """

    def __init__(self, max_seqs: int, max_blocks: int) -> None:
        self._rows = np.zeros((max_seqs, max_blocks), np.int32)
        self._mirrored: list[list[int] | None] = [None] * max_seqs
        self._lengths = [0] * max_seqs

    def write(self, tables: Sequence[list[int]]) -> None:
        """Take over these tables, in order."""
        for row, table in enumerate(tables):
            start = self._lengths[row] if self._mirrored[row] is table else 0
            if start != len(table):
                self._rows[row, start : len(table)] = table[start:]
                self._mirrored[row] = table
                self._lengths[row] = len(table)

    def rows(self, count: int) -> Int32Array:
        """The first ``count`` rows. A view: the next ``write`` changes it."""
        return self._rows[:count]


class Runner:
    """Turns plans into ``StepInputs`` in arrays made once, and runs them."""

    def __init__(self, executable: Executable, cache: KVCache, limits: Limits, *, num_kv_groups: int) -> None:
        assert limits.max_rows >= limits.max_seqs
        self._executable = executable
        self._cache = cache
        self._token_ids = np.zeros(limits.max_tokens, np.int32)
        self._positions = np.zeros(limits.max_tokens, np.int32)
        self._query_offsets = np.zeros(limits.max_seqs + 1, np.int32)
        self._kv_lengths = np.zeros(limits.max_seqs, np.int32)
        self._logit_rows = np.zeros(limits.max_rows, np.int32)
        self._all_positions = np.arange(limits.max_model_len, dtype=np.int32)
        # A single value is written to a memory view in a tenth of the time that an array takes for it.
        self._token_view, self._position_view = self._token_ids.data, self._positions.data
        self._length_view = self._kv_lengths.data
        max_blocks = num_blocks_for(limits.max_model_len)
        self._tables = tuple(BlockTableArray(limits.max_seqs, max_blocks) for _ in range(num_kv_groups))
        self._sampling = SamplingInputsBuilder(limits.max_rows)
        self._num_decoding = 0
        self._inputs: StepInputs | None = None

    def execute(self, plan: StepPlan) -> SampledTokens | None:
        """Run one step and wait for it. None if no sequence has a row; arrays are valid until the next call."""
        for copy in plan.copies:
            self._cache.copy_block(*copy)
        return self._executable.run(self._build(plan.sequences), self._cache).result().sampled

    def _build(self, sequences: Sequence[ScheduledSequence]) -> StepInputs:
        for group, array in enumerate(self._tables):
            array.write([s.request.block_tables[group] for s in sequences])
        if all(s.num_tokens == 1 and s.is_sampled for s in sequences):
            return self._decode_inputs(sequences)
        return self._ragged_inputs(sequences)

    def _decode_inputs(self, sequences: Sequence[ScheduledSequence]) -> StepInputs:
        """One token of each. The object of the last step, with other values in its arrays, if it had as many."""
        for index, (request, *_) in enumerate(sequences):
            computed = request.num_computed_tokens
            self._token_view[index] = request.token_view[computed]
            self._position_view[index] = computed
            self._length_view[index] = computed + 1
        count = len(sequences)
        sampling = self._sampling.build([s.request for s in sequences])
        inputs = self._inputs
        if inputs is None or self._num_decoding != count or inputs.sampling is not sampling:
            self._query_offsets[: count + 1] = range(count + 1)
            self._logit_rows[:count] = range(count)
            self._inputs = inputs = self._views(count, count, count, sampling)
            self._num_decoding = count
        return inputs

    def _ragged_inputs(self, sequences: Sequence[ScheduledSequence]) -> StepInputs:
        offsets, kv_lengths, rows, scored_rows = [0], [], [], []
        for request, num_tokens, is_sampled, scored in sequences:
            first, start = offsets[-1], request.num_computed_tokens
            end, stop = first + num_tokens, start + num_tokens
            self._token_ids[first:end] = request.tokens[start:stop]
            self._positions[first:end] = self._all_positions[start:stop]
            offsets.append(end)
            kv_lengths.append(stop)
            if is_sampled:
                rows.append(end - 1)
            scored_rows += [first + position - start for position in scored]
        rows += scored_rows
        num_tokens, num_seqs, num_rows = offsets[-1], len(sequences), len(rows)
        self._query_offsets[: num_seqs + 1] = offsets
        self._kv_lengths[:num_seqs] = kv_lengths
        self._logit_rows[:num_rows] = rows
        sampled = [s.request for s in sequences if s.is_sampled]
        scored_spans = [(s.request, s.scored) for s in sequences if s.scored]
        sampling = self._sampling.build(sampled, scored_spans) if rows else None
        self._inputs = None
        return self._views(num_tokens, num_seqs, num_rows, sampling)

    def _views(self, num_tokens: int, num_seqs: int, num_rows: int, sampling: SamplingInputs | None) -> StepInputs:
        return StepInputs(
            token_ids=self._token_ids[:num_tokens],
            positions=self._positions[:num_tokens],
            query_offsets=self._query_offsets[: num_seqs + 1],
            kv_lengths=self._kv_lengths[:num_seqs],
            kv_groups=tuple(KVGroupInputs(array.rows(num_seqs)) for array in self._tables),
            logit_rows=self._logit_rows[:num_rows],
            sampling=sampling,
        )
