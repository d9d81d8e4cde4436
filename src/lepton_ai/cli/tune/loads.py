"""The steps that trials run: one request that decodes, sixteen, and a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lepton_ai.backends.base import BLOCK_SIZE, Executable, Int32Array, KVCache, KVGroupInputs, StepInputs
from lepton_ai.engine.decoder import Decoder
from lepton_ai.graph.attrs import kv_groups

NUM_REQUESTS = 16
PROMPT_TOKENS = 512
MAX_MODEL_LEN = PROMPT_TOKENS + BLOCK_SIZE

DECODE_ONE, DECODE_MANY, PROMPT = "decode 1", f"decode {NUM_REQUESTS}", f"prompt {PROMPT_TOKENS}"
LOADS = (DECODE_ONE, DECODE_MANY, PROMPT)

_BLOCKS_OF_REQUEST = MAX_MODEL_LEN // BLOCK_SIZE
_LOGIT_ROWS = 8  # of a prompt: what is compared bit by bit


@dataclass(frozen=True, slots=True)
class Loads:
    """Steps by name. They write what they find there: each may run any number of times, in any order."""

    steps: Mapping[str, StepInputs]
    num_groups: int

    @classmethod
    def make(cls, decoder: Decoder, seed: int) -> Loads:
        """For a model that has room for them."""
        assert decoder.limits.max_model_len >= MAX_MODEL_LEN
        ids = np.random.default_rng(seed).integers(0, decoder.model.config.vocab_size, PROMPT_TOKENS + NUM_REQUESTS)
        prompt, last = ids[:PROMPT_TOKENS].tolist(), ids[PROMPT_TOKENS:].tolist()
        num_groups = len(kv_groups(decoder.kv_specs))
        steps = {
            DECODE_ONE: _step([(PROMPT_TOKENS, last[:1])], num_groups),
            DECODE_MANY: _step([(PROMPT_TOKENS, [token]) for token in last], num_groups),
            PROMPT: _step([(0, prompt)], num_groups, logit_rows=range(PROMPT_TOKENS - _LOGIT_ROWS, PROMPT_TOKENS)),
        }
        return cls(steps, num_groups)

    def fill(self, executable: Executable, decoder: Decoder) -> KVCache:
        """A cache with the prompt in the place of each request."""
        cache = decoder.allocate_kv(NUM_REQUESTS * _BLOCKS_OF_REQUEST)
        executable.run(self.steps[PROMPT], cache).result()
        for group in range(self.num_groups):
            for block in range(PROMPT_TOKENS // BLOCK_SIZE):
                for request in range(1, NUM_REQUESTS):
                    cache.copy_block(group, block, request * _BLOCKS_OF_REQUEST + block)
        return cache


def _step(
    chunks: Sequence[tuple[int, Sequence[int]]], num_groups: int, *, logit_rows: Sequence[int] | range | None = None
) -> StepInputs:
    """A chunk for each request: tokens before it, and its own."""
    counts = [len(ids) for _, ids in chunks]
    tables = np.arange(len(chunks) * _BLOCKS_OF_REQUEST, dtype=np.int32).reshape(len(chunks), -1)
    return StepInputs(
        token_ids=_ints([token for _, ids in chunks for token in ids]),
        positions=_ints([start + i for start, ids in chunks for i in range(len(ids))]),
        query_offsets=_ints([0, *np.cumsum(counts).tolist()]),
        kv_lengths=_ints([start + len(ids) for start, ids in chunks]),
        kv_groups=[KVGroupInputs(tables)] * num_groups,
        logit_rows=_ints(range(sum(counts)) if logit_rows is None else logit_rows),
    )


def _ints(values: Sequence[int] | range) -> Int32Array:
    return np.array(values, np.int32)
