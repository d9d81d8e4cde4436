"""Runs whole, known token sequences through a graph and hands out what it says of every position.

For scoring and evaluation: nothing is sampled and nothing is kept. A pass has KV memory of its own, for as long as it
runs, so it neither takes blocks from generations nor waits for theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from lepton_ai.backends.base import Executable, Float32Array, Int32Array, KVCache, KVGroupInputs, StepInputs
from lepton_ai.config import Limits
from lepton_ai.engine.kv.group import num_blocks_for


@dataclass(frozen=True, slots=True)
class PromptPass:
    """How to run sequences: ``output`` names the tensor wanted, ``turn`` makes the device ours for one step."""

    executable: Executable
    allocate_kv: Callable[[int], KVCache]
    num_kv_groups: int
    limits: Limits
    output: str
    turn: Callable[[], AbstractContextManager[None]]

    def run(
        self, sequences: Sequence[Int32Array], targets: Sequence[Int32Array] | None = None
    ) -> Iterator[Float32Array]:
        """The output of every token, sequence after sequence, in pieces ``[n, ...]`` with ``n <= limits.max_rows``.

        A piece is the caller's to keep. ``targets`` (of the sequences' sizes) are for graphs that end in token_logprob.
        """
        lengths = [len(s) for s in sequences]
        first_blocks = np.concatenate([[0], np.cumsum([num_blocks_for(n) for n in lengths])])
        cache = self.allocate_kv(int(first_blocks[-1]))
        for piece in _cut(lengths, min(self.limits.max_tokens, self.limits.max_rows), self.limits.max_seqs):
            inputs = self._inputs(piece, sequences, targets, first_blocks)
            with self.turn():
                values = self.executable.run(inputs, cache).result().tensors[self.output].copy()
            yield values

    def _inputs(
        self,
        piece: list[_Span],
        sequences: Sequence[Int32Array],
        targets: Sequence[Int32Array] | None,
        first_blocks: Int32Array,
    ) -> StepInputs:
        counts = [span.stop - span.start for span in piece]
        width = max(num_blocks_for(span.stop) for span in piece)
        tables = np.zeros((len(piece), width), np.int32)
        for row, span in enumerate(piece):
            used = num_blocks_for(span.stop)
            tables[row, :used] = np.arange(used) + first_blocks[span.sequence]
        return StepInputs(
            token_ids=np.concatenate([sequences[s.sequence][s.start : s.stop] for s in piece]),
            positions=np.concatenate([np.arange(s.start, s.stop, dtype=np.int32) for s in piece]),
            query_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
            kv_lengths=np.array([s.stop for s in piece], np.int32),
            kv_groups=(KVGroupInputs(tables),) * self.num_kv_groups,
            logit_rows=np.arange(sum(counts), dtype=np.int32),
            targets=None if targets is None else np.concatenate([targets[s.sequence][s.start : s.stop] for s in piece]),
        )


@dataclass(frozen=True, slots=True)
class _Span:
    """Tokens ``start ... stop-1`` of a sequence."""

    sequence: int
    start: int
    stop: int


def _cut(lengths: Sequence[int], max_tokens: int, max_seqs: int) -> Iterator[list[_Span]]:
    """Lay sequences end to end and cut them into steps."""
    piece: list[_Span] = []
    room = max_tokens
    for sequence, length in enumerate(lengths):
        start = 0
        while start < length:
            stop = min(length, start + room)
            piece.append(_Span(sequence, start, stop))
            room -= stop - start
            start = stop
            if room == 0 or len(piece) == max_seqs:
                yield piece
                piece, room = [], max_tokens
    if piece:
        yield piece
