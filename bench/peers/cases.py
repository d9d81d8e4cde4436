"""What is compared, and by how much Lepton must and should win."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from bench.peers import engines
from bench.peers.encoder_workloads import BATCHES, RAGGED, Embedding
from bench.peers.engine import Engine
from bench.peers.subjects import GEMMA, MINILM, QWEN_05B, QWEN_05B_Q4_0, QWEN_15B, SMOLLM2, SMOLLM2_Q4_0, Subject
from bench.peers.workloads import (
    DECODE,
    DECODE_4,
    DECODE_16,
    DECODE_32,
    DECODE_AFTER,
    FIRST_TOKEN,
    LONG_PREFILL,
    PEAK_MEMORY,
    PREFILL,
    Generation,
    Launch,
    Workload,
)


class Table(Enum):
    """Where a case stands."""

    GENERATION = "generation"
    LIMITS = "limits"
    ENCODERS = "encoders"
    STARTS = "starts"


@dataclass(frozen=True, slots=True)
class Target:
    """Ratios: what must be reached, and what is aimed at. With ``other``, the goal is also reached where that case
    reaches its own.
    """

    must: float | None = None
    goal: float | None = None
    other: str | None = None


NO_TARGET = Target()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Two engines on one subject: rates of ``ours`` on ``workload`` beside those of ``theirs`` on the same, or on
    ``their_workload``. Beside the engine ONE_SECOND, a launch is held against a second. ``is_short`` ones are those of
    ``make bench``.
    """

    table: Table
    subject: Subject
    workload: Workload | Launch
    ours: Engine
    theirs: Engine
    target: Target = NO_TARGET
    their_workload: Workload | None = None
    is_short: bool = False

    @property
    def name(self) -> str:
        """Unique, without spaces: what ``--only`` looks at."""
        opponent = self.their_workload.name if self.their_workload else self.theirs.name
        return f"{self.subject.name}/{self.workload.name}/{opponent}".replace(" ", "-").replace(",", "")

    @property
    def can_limit_isa(self) -> bool:
        """Whether both engines can be held to an older instruction set."""
        return self.ours.can_limit_isa and self.theirs.can_limit_isa and not isinstance(self.workload, Launch)


def all_cases(flags: frozenset[str]) -> tuple[Case, ...]:
    """In the order of the page; those on the same file together. ``flags`` are what the processor can do."""
    generation = list(_generation())
    subjects = list(dict.fromkeys(case.subject for case in generation))
    generation.sort(key=lambda case: subjects.index(case.subject))
    return (*generation, *_limits(), *_encoders(flags), *_starts())


def _generation() -> Iterator[Case]:
    for subject, workload, target in AGAINST_LLAMA_CPP:
        is_short = subject.model == "smollm2"
        yield _generate(subject, workload, engines.LLAMA_CPP, target, is_short=is_short)
    for subject in (SMOLLM2_Q4_0, QWEN_05B_Q4_0):
        for peer in engines.LOW_BIT_PEERS:
            for workload in (PREFILL, DECODE, DECODE_16):
                is_held = (subject, workload, peer) == (SMOLLM2_Q4_0, PREFILL, engines.CTRANSLATE2)
                yield _generate(subject, workload, peer, PREFILL_AGAINST_CTRANSLATE2 if is_held else NO_TARGET)
    for workload, target in AGAINST_TRANSFORMERS:
        yield _generate(SMOLLM2_Q4_0, workload, engines.TRANSFORMERS, target)


def _limits() -> Iterator[Case]:
    for subject, goal in SHARES_OF_BANDWIDTH:
        yield _limit(subject, DECODE, engines.KV_CACHES[0], Target(goal=goal))
    for pair in engines.KV_CACHES:
        for workload in DECODE_AFTER:
            yield _limit(SMOLLM2_Q4_0, workload, pair, SHARE_AFTER_CONTEXT)
    own = engines.LEPTON_LONG, engines.LEPTON_LONG
    yield replace(_limit(SMOLLM2_Q4_0, LONG_PREFILL, own, LONG_AGAINST_SHORT), their_workload=PREFILL)


def _limit(subject: Subject, workload: Workload, pair: tuple[Engine, Engine], target: Target) -> Case:
    ours, theirs = pair
    return Case(table=Table.LIMITS, subject=subject, workload=workload, ours=ours, theirs=theirs, target=target)


def _encoders(flags: frozenset[str]) -> Iterator[Case]:
    for batch in (*BATCHES, RAGGED):
        for peer in engines.encoder_peers(flags):
            has_target = batch is not RAGGED and peer is not engines.ENCODER_REFERENCE
            target = AGAINST_ENCODERS if has_target else NO_TARGET
            yield _embed(batch, peer, target)


def _starts() -> Iterator[Case]:
    for subject, must_s, goal_s in STARTS:
        yield _launch(subject, FIRST_TOKEN, engines.ONE_SECOND, Target(1 / must_s, 1 / goal_s))
        for peer in engines.GENERATION_PEERS:
            yield _launch(subject, FIRST_TOKEN, peer, START_AGAINST_PEERS)
            yield _launch(subject, PEAK_MEMORY, peer, MEMORY_AGAINST_PEERS)


def _generate(subject: Subject, workload: Generation, peer: Engine, target: Target, *, is_short: bool = False) -> Case:
    return Case(
        table=Table.GENERATION,
        subject=subject,
        workload=workload,
        ours=engines.LEPTON,
        theirs=peer,
        target=target,
        is_short=is_short,
    )


def _embed(batch: Embedding, peer: Engine, target: Target) -> Case:
    return Case(
        table=Table.ENCODERS,
        subject=MINILM,
        workload=batch,
        ours=engines.LEPTON_ENCODER,
        theirs=peer,
        target=target,
        is_short=peer is not engines.CTRANSLATE2_ENCODER,
    )


def _launch(subject: Subject, launch: Launch, peer: Engine, target: Target) -> Case:
    return Case(table=Table.STARTS, subject=subject, workload=launch, ours=engines.LEPTON, theirs=peer, target=target)


AGAINST_LLAMA_CPP: Sequence[tuple[Subject, Generation, Target]] = (
    (SMOLLM2, PREFILL, Target(3.0)),
    (SMOLLM2, DECODE, Target(1.7)),
    (SMOLLM2_Q4_0, PREFILL, Target(2.7, 3.5)),
    (SMOLLM2_Q4_0, DECODE, Target(1.8, 2.1, other="smollm2-q4_0/decode-1/memory")),
    (SMOLLM2_Q4_0, DECODE_4, Target(2.2, 2.6)),
    (SMOLLM2_Q4_0, DECODE_16, Target(2.5, 3.0)),
    (SMOLLM2_Q4_0, DECODE_32, Target(2.5, 3.0)),
    (QWEN_05B_Q4_0, PREFILL, Target(2.5, 3.0)),
    (QWEN_05B_Q4_0, DECODE, Target(1.4)),
    (QWEN_05B_Q4_0, DECODE_16, Target(2.5, 3.2)),
    (QWEN_15B, PREFILL, Target(2.0, 2.8)),
    (QWEN_15B, DECODE, Target(1.2)),
    (GEMMA, PREFILL, Target(1.5, 2.5)),
    (GEMMA, DECODE, Target(1.5, 2.0)),
)

PREFILL_AGAINST_CTRANSLATE2 = Target(goal=2.0)

AGAINST_TRANSFORMERS: Sequence[tuple[Generation, Target]] = (
    (PREFILL, Target(4.0, 5.0)),
    (DECODE, Target(15.0, 20.0)),
    (DECODE_16, Target(30.0, 45.0)),
)
"""The plain engine, which multiplies in f32."""

SHARES_OF_BANDWIDTH: Sequence[tuple[Subject, float]] = ((SMOLLM2_Q4_0, 0.8), (QWEN_05B_Q4_0, 0.85), (QWEN_15B, 0.85))
"""Of decoding after 512 tokens: the time of reading weights, keys and values at the bandwidth of memory, by its own."""

SHARE_AFTER_CONTEXT = Target(0.6, 0.75)
"""The same after 64, 1,024 and 4,096 tokens."""

LONG_AGAINST_SHORT = Target(0.7, 0.85)
"""Prefill of 4,096 tokens against that of 512."""

STARTS: Sequence[tuple[Subject, float, float]] = ((SMOLLM2, 0.55, 0.4), (QWEN_05B, 0.95, 0.7))
"""Seconds of a whole process that prints a token, files in the page cache: what must be reached, what is aimed at."""

START_AGAINST_PEERS = Target(goal=1.0)
MEMORY_AGAINST_PEERS = Target(1.0, 1 / 0.7)
"""Of every other engine."""

AGAINST_ENCODERS = Target(1.2, 1.5)
"""Against every other engine in fewer than 32 bits, and OpenVINO in any."""

LEAST_COSINE = 0.999
"""Of an encoder's vectors with those in f32: a target is missed below it."""
