"""A model that needs no weights: the next token is a hash of the context, as read back through the block tables."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lepton_ai.backends.base import BLOCK_SIZE, Float32Array, KVCache, SampledTokens, StepInputs, StepOutputs
from lepton_ai.config import Limits
from lepton_ai.engine.constraint import Constraint
from lepton_ai.engine.engine import EngineConfig
from lepton_ai.engine.token_matcher import TokenMatcher

VOCAB_SIZE = 128
EOS_ID = 0


@dataclass
class FakeCache:
    """KV of one token is its id; unwritten places hold -1."""

    num_blocks: int
    tokens: npt.NDArray[np.int32] = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = np.full((self.num_blocks, BLOCK_SIZE), -1, np.int32)

    @property
    def num_bytes(self) -> int:
        return self.tokens.nbytes

    def copy_block(self, group: int, source: int, target: int) -> None:
        self.tokens[target] = self.tokens[source]


@dataclass(frozen=True)
class FakeHandle:
    outputs: StepOutputs

    def result(self) -> StepOutputs:
        return self.outputs


def next_token(context: npt.NDArray[np.int32], seed: int | None = None) -> int:
    """A printable byte that depends on every token of the context, and on the seed and position if there is one."""
    data = context.astype(np.int32).tobytes()
    if seed is not None:
        data += f"{seed}:{len(context)}".encode()
    return 33 + zlib.crc32(data) % 94


def expected_tokens(prompt: list[int], count: int, seed: int | None = None) -> list[int]:
    """What a generation alone gives."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(np.array(tokens), seed))
    return tokens[len(prompt) :]


def greedy_text(prompt: list[int], count: int) -> str:
    """The same as text."""
    return "".join(map(chr, expected_tokens(prompt, count)))


@dataclass
class FakeExecutable:
    """Checks its inputs as a kernel would rely on them; ``steps`` keeps the number of tokens of each step.

    ``script`` replaces the tokens chosen at given context lengths; ``failure`` is raised by the next step.
    """

    limits: Limits
    script: dict[int, int] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    failure: BaseException | None = None

    def run(self, inputs: StepInputs, cache: KVCache) -> FakeHandle:
        assert isinstance(cache, FakeCache)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        num_tokens, num_seqs = len(inputs.token_ids), len(inputs.kv_lengths)
        assert 0 < num_tokens <= self.limits.max_tokens and num_seqs <= self.limits.max_seqs
        assert len(inputs.logit_rows) <= self.limits.max_rows
        self.steps.append(num_tokens)
        contexts: dict[int, npt.NDArray[np.int32]] = {}
        for s in range(num_seqs):
            first, end = int(inputs.query_offsets[s]), int(inputs.query_offsets[s + 1])
            for group in inputs.kv_groups:
                table = group.block_tables[s]
                for t in range(first, end):
                    position = int(inputs.positions[t])
                    cache.tokens[table[position // BLOCK_SIZE], position % BLOCK_SIZE] = inputs.token_ids[t]
                length = int(inputs.kv_lengths[s])
                assert int(inputs.positions[end - 1]) == length - 1
                content = cache.tokens[table[: -(-length // BLOCK_SIZE)]].reshape(-1)[:length]
                assert (content >= 0).all(), "a context holds places that nobody wrote"
                for t in range(first, end):
                    contexts[t] = content[: int(inputs.positions[t]) + 1]
        rows = [contexts[int(t)] for t in inputs.logit_rows]
        return FakeHandle(self._outputs(inputs, rows))

    def set_weight(self, name: str, values: Float32Array) -> None:
        raise AssertionError("not used")

    def _outputs(self, inputs: StepInputs, rows: list[npt.NDArray[np.int32]]) -> StepOutputs:
        if inputs.targets is not None:
            values = [-float(int(t) + len(row)) for t, row in zip(inputs.targets, rows, strict=True)]
            return StepOutputs({"logprobs": np.array(values, np.float32)})
        if inputs.sampling is None:
            logits = np.zeros((len(rows), VOCAB_SIZE), np.float32)
            for r, row in enumerate(rows):
                logits[r, next_token(row)] = len(row)
            return StepOutputs({"logits": logits})
        sampling = inputs.sampling
        ids = []
        for r, row in enumerate(rows):
            assert int(sampling.draws[r]) == len(row)
            seed = int(sampling.seeds[r]) if sampling.temperature[r] > 0 else None
            ids.append(self.script.get(len(row), next_token(row, seed)))
        count = int(sampling.num_logprobs.max())
        top_ids = np.array([[(i + k) % VOCAB_SIZE for k in range(count)] for i in ids], np.int32)
        top = np.tile(-np.arange(1, count + 1, dtype=np.float32), (len(ids), 1))
        logprobs = np.full(len(ids), -1.0, np.float32)
        return StepOutputs({}, SampledTokens(np.array(ids, np.int32), logprobs, top_ids, top))


@dataclass
class ByteDecoder:
    """Ids are bytes of ASCII text; ``stop`` strings are cut off."""

    stop: tuple[str, ...] = ()
    is_stopped: bool = False
    _held: str = ""

    def push(self, token_id: int) -> str:
        self._held += chr(token_id)
        for stop in self.stop:
            if (at := self._held.find(stop)) >= 0:
                self.is_stopped = True
                text, self._held = self._held[:at], ""
                return text
        keep = max((n for s in self.stop for n in range(1, len(s)) if self._held.endswith(s[:n])), default=0)
        text, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return text

    def finish(self) -> str:
        text, self._held = self._held, ""
        return text


def config(
    *, max_tokens: int = 64, max_seqs: int = 8, max_model_len: int = 256, num_kv_groups: int = 1
) -> EngineConfig:
    return EngineConfig(
        limits=Limits(max_tokens=max_tokens, max_rows=max_seqs, max_seqs=max_seqs, max_model_len=max_model_len),
        vocab_size=VOCAB_SIZE,
        eos_ids=frozenset({EOS_ID}),
        num_kv_groups=num_kv_groups,
    )


def no_constraints(constraint: Constraint) -> TokenMatcher:
    """For engines whose tokens have no texts."""
    raise AssertionError("not used")
