"""What a model says of texts that are given: log-probabilities of their tokens, or all logits."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from lepton_ai.backends.base import Executable, Float32Array, Int32Array
from lepton_ai.config import Limits
from lepton_ai.engine.decoder import Decoder
from lepton_ai.engine.local_client import LocalClient
from lepton_ai.engine.outputs import Score
from lepton_ai.engine.prompt_pass import PromptPass
from lepton_ai.graph.attrs import kv_groups


class Evaluator:
    """Runs prompt passes between the steps of an engine. Its KV memory is its own, and held while a pass runs."""

    def __init__(self, decoder: Decoder, client: LocalClient) -> None:
        self._decoder = decoder
        self._client = client
        self._lock = threading.Lock()
        self._scorer: Executable | None = None

    def score(self, sequences: Sequence[Int32Array]) -> list[Score]:
        """Scores in order. As many sequences share a pass as fit a step; a longer one is cut into steps."""
        scores: list[Score] = []
        for batch in _batches(sequences, self._decoder.limits.max_tokens):
            scores += self._score_batch(batch)
        return scores

    def logits(self, token_ids: Int32Array) -> Iterator[Float32Array]:
        """Logits after each token, in pieces ``[n, V]`` of at most ``limits.max_rows`` rows."""
        limits = self._decoder.limits
        prompt_pass = self._pass(self._decoder.executable, "logits", replace(limits, max_seqs=1))
        return prompt_pass.run([token_ids])

    def _score_batch(self, batch: list[Int32Array]) -> list[Score]:
        limits = self._decoder.limits
        prompt_pass = self._pass(self._get_scorer(), "logprobs", replace(limits, max_rows=limits.max_tokens))
        pieces = list(prompt_pass.run([s[:-1] for s in batch], [s[1:] for s in batch]))
        values = np.concatenate(pieces) if pieces else np.empty(0, np.float32)
        ends = np.cumsum([len(s) - 1 for s in batch])
        return [
            Score(tuple(s.tolist()), tuple(values[end - len(s) + 1 : end].tolist()))
            for s, end in zip(batch, ends, strict=True)
        ]

    def _pass(self, executable: Executable, output: str, limits: Limits) -> PromptPass:
        decoder = self._decoder
        num_groups = len(kv_groups(decoder.kv_specs))
        return PromptPass(executable, decoder.allocate_kv, num_groups, limits, output, self._client.between_steps)

    def _get_scorer(self) -> Executable:
        """The model with a head that gives log-probabilities, compiled when it is first asked for."""
        with self._lock, self._client.between_steps():
            if self._scorer is None:
                limits = self._decoder.limits
                self._scorer = self._decoder.compile("logprobs", replace(limits, max_rows=limits.max_tokens))
            return self._scorer


def _batches(sequences: Sequence[Int32Array], max_tokens: int) -> Iterator[list[Int32Array]]:
    batch: list[Int32Array] = []
    size = 0
    for sequence in sequences:
        if batch and size + len(sequence) > max_tokens:
            yield batch
            batch, size = [], 0
        batch.append(sequence)
        size += len(sequence)
    if batch:
        yield batch
