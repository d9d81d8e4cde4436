"""A model that needs no weights: the next token is a hash of the context, as read back through the block tables."""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lepton_ai.backends.base import BLOCK_SIZE, Float32Array, KVCache, SampledTokens, StepInputs, StepOutputs
from lepton_ai.config import Limits
from lepton_ai.engine.constraints.constraint import Constraint
from lepton_ai.engine.constraints.token_matcher import TokenMatcher
from lepton_ai.engine.engine import EngineConfig

VOCAB_SIZE = 128
EOS_ID = 0


class FakeCache:
    """KV of one token is its id; unwritten places hold -1. ``num_blocks`` of each group."""

    def __init__(self, *num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.tokens = [np.full((count, BLOCK_SIZE), -1, np.int32) for count in num_blocks]

    @property
    def num_bytes(self) -> int:
        return sum(blocks.nbytes for blocks in self.tokens)

    def copy_block(self, group: int, source: int, target: int) -> None:
        self.tokens[group][target] = self.tokens[group][source]

    def write(self, group: int, table: npt.NDArray[np.int32], position: int, token_id: int) -> None:
        self.tokens[group][table[position // BLOCK_SIZE], position % BLOCK_SIZE] = token_id

    def read(self, group: int, table: npt.NDArray[np.int32], length: int) -> npt.NDArray[np.int32]:
        content: npt.NDArray[np.int32] = self.tokens[group][table[: -(-length // BLOCK_SIZE)]].reshape(-1)[:length]
        return content


@dataclass(frozen=True)
class FakeHandle:
    outputs: StepOutputs

    def result(self) -> StepOutputs:
        return self.outputs


def next_token(context: npt.NDArray[np.int32], seed: int | None = None, *, window: int | None = None) -> int:
    """A printable byte that depends on every token of the context, or of its last ``window``, and on the seed and
    position if there is one."""
    data = context[-(window or len(context)) :].astype(np.int32).tobytes()
    if seed is not None:
        data += f"{seed}:{len(context)}".encode()
    return 33 + zlib.crc32(data) % 94


def forced_logprob(context: npt.NDArray[np.int32], token_id: int, *, window: int | None = None) -> float:
    """What a known token's log-probability is: an integer that depends on every token of the context, or of its last
    ``window``."""
    seen = context[-(window or len(context)) :]
    return -float((zlib.crc32(seen.astype(np.int32).tobytes()) + token_id) % 1000)


def expected_prompt_logprobs(prompt: list[int], *, window: int | None = None) -> list[tuple[int, float]]:
    """Each token after the first with its log-probability."""
    ids = np.array(prompt)
    return [(token_id, forced_logprob(ids[:n], token_id, window=window)) for n, token_id in enumerate(prompt) if n]


def expected_tokens(prompt: list[int], count: int, seed: int | None = None, *, window: int | None = None) -> list[int]:
    """What a generation alone gives."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(np.array(tokens), seed, window=window))
    return tokens[len(prompt) :]


def greedy_text(prompt: list[int], count: int) -> str:
    """The same as text."""
    return "".join(map(chr, expected_tokens(prompt, count)))


@dataclass
class FakeExecutable:
    """Checks its inputs as a kernel would rely on them; ``steps`` keeps the number of tokens of each step.

    ``windows`` are those of the KV groups, all of which see everything if none are given. ``script`` replaces the
    tokens chosen at given context lengths; ``failure`` is raised by the next step. A step takes ``step_s`` at least, in
    which other threads have their turn.
    """

    limits: Limits
    windows: tuple[int | None, ...] = ()
    script: dict[int, int] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    failure: BaseException | None = None
    step_s: float = 0.0

    def run(self, inputs: StepInputs, cache: KVCache) -> FakeHandle:
        assert isinstance(cache, FakeCache)
        time.sleep(self.step_s)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        num_tokens, num_seqs = len(inputs.token_ids), len(inputs.kv_lengths)
        assert 0 < num_tokens <= self.limits.max_tokens and num_seqs <= self.limits.max_seqs
        assert len(inputs.logit_rows) <= self.limits.max_rows
        self.steps.append(num_tokens)
        contexts: dict[int, npt.NDArray[np.int32]] = {}
        for s in range(num_seqs):
            for t in range(int(inputs.query_offsets[s]), int(inputs.query_offsets[s + 1])):
                for g, group in enumerate(inputs.kv_groups):
                    cache.write(g, group.block_tables[s], int(inputs.positions[t]), int(inputs.token_ids[t]))
        for s in range(num_seqs):
            first, end = int(inputs.query_offsets[s]), int(inputs.query_offsets[s + 1])
            content = self._visible(inputs, cache, s)
            for t in range(first, end):
                contexts[t] = content[: int(inputs.positions[t]) + 1]
        rows = [contexts[int(t)] for t in inputs.logit_rows]
        return FakeHandle(self._outputs(inputs, rows))

    def set_weight(self, name: str, values: Float32Array) -> None:
        raise AssertionError("not used")

    @property
    def window(self) -> int | None:
        """That of the group that sees most."""
        sizes = [window for window in self.windows if window is not None]
        return max(sizes) if sizes and len(sizes) == len(self.windows) else None

    def _visible(self, inputs: StepInputs, cache: FakeCache, sequence: int) -> npt.NDArray[np.int32]:
        """The content of the group that sees most of a sequence; what others see must be the same."""
        length, begin = int(inputs.kv_lengths[sequence]), int(inputs.positions[inputs.query_offsets[sequence]])
        assert int(inputs.positions[inputs.query_offsets[sequence + 1] - 1]) == length - 1
        windows = self.windows or (None,) * len(inputs.kv_groups)
        contents = [cache.read(g, group.block_tables[sequence], length) for g, group in enumerate(inputs.kv_groups)]
        widest = contents[windows.index(self.window)]
        for content, window in zip(contents, windows, strict=True):
            visible = slice(0 if window is None else max(0, begin - window + 1), length)
            assert (content[visible] >= 0).all(), "a context holds places that nobody wrote"
            assert np.array_equal(content[visible], widest[visible]), "groups hold different contexts"
        return widest

    def _outputs(self, inputs: StepInputs, rows: list[npt.NDArray[np.int32]]) -> StepOutputs:
        if inputs.targets is not None:
            values = [-float(int(t) + len(row)) for t, row in zip(inputs.targets, rows, strict=True)]
            return StepOutputs({"logprobs": np.array(values, np.float32)})
        if inputs.sampling is None:
            logits = np.zeros((len(rows), VOCAB_SIZE), np.float32)
            for r, row in enumerate(rows):
                logits[r, next_token(row, window=self.window)] = len(row)
            return StepOutputs({"logits": logits})
        sampling = inputs.sampling
        ids = []
        logprobs = np.full(len(rows), -1.0, np.float32)
        for r, row in enumerate(rows):
            if (forced := int(sampling.forced_ids[r])) >= 0:
                ids.append(forced)
                logprobs[r] = forced_logprob(row, forced, window=self.window)
                continue
            assert int(sampling.draws[r]) == len(row)
            seed = int(sampling.seeds[r]) if sampling.temperature[r] > 0 else None
            ids.append(self.script.get(len(row), next_token(row, seed, window=self.window)))
        count = int(sampling.num_logprobs.max())
        top_ids = np.array([[(i + k) % VOCAB_SIZE for k in range(count)] for i in ids], np.int32)
        top = np.tile(-np.arange(1, count + 1, dtype=np.float32), (len(ids), 1))
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
    *,
    max_tokens: int = 64,
    max_rows: int | None = None,
    max_seqs: int = 8,
    max_model_len: int = 256,
    kv_windows: tuple[int | None, ...] = (None,),
) -> EngineConfig:
    return EngineConfig(
        limits=Limits(max_tokens, max_seqs if max_rows is None else max_rows, max_seqs, max_model_len),
        vocab_size=VOCAB_SIZE,
        eos_ids=frozenset({EOS_ID}),
        kv_windows=kv_windows,
    )


def no_constraints(constraint: Constraint) -> TokenMatcher:
    """For engines whose tokens have no texts."""
    raise AssertionError("not used")
