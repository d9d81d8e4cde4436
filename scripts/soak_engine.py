"""Many requests of mixed shape on a real model, for minutes: `make soak-engine`.

    .venv/bin/python -m scripts.soak_engine [--requests 2000] [--model smollm2] [--json FILE]

Threads send requests of all kinds to an engine whose memory is too small for them, and cancel some. Looked at: each has
one terminal answer; what was pre-empted, shared or waited for has the bits of a quiet run, in which it is alone; the
invariants of scheduler and pool hold; and memory does not grow.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import Progress
from scripts.soak.memory import MAX_GROWTH, growth, resident_bytes

from lepton_ai import LLM, Constraint, LeptonError, RequestOptions, SamplingParams

_CANCELLED_SHARE = 0.1
_CONSTRAINTS = (Constraint.regex("[a-z]{3,30}"), Constraint.choice(["yes", "no", "perhaps"]))
_FIRST_ORDINARY_ID, _MAX_OUTPUT = 1000, 80


@dataclass(frozen=True, slots=True)
class Spec:
    """One request, and after how many chunks it is cancelled, if it is."""

    prompt: tuple[int, ...]
    params: SamplingParams
    options: RequestOptions
    cancel_after: int | None


class Answer(NamedTuple):
    """What came of a request: its tokens, and how it ended. In little memory, for that is what is watched."""

    token_ids: array[int]
    logprobs: array[float]
    prompt_logprobs: array[float]
    finish_reason: str


@dataclass(slots=True)
class Record:
    """What threads saw."""

    answers: dict[int, list[Answer]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    resident_bytes: list[int] = field(default_factory=list)


def make_specs(count: int, vocab_size: int, seed: int, *, max_prompt: int = 300) -> list[Spec]:
    """Prompts of up to 300 tokens, half of them with one of a few beginnings; outputs of 1 to 80."""
    rng = random.Random(seed)

    def ids(number: int) -> tuple[int, ...]:
        return tuple(rng.randrange(_FIRST_ORDINARY_ID, vocab_size) for _ in range(number))

    beginnings = [ids(rng.randrange(20, 200)) for _ in range(8)]
    specs = []
    for index in range(count):
        beginning = rng.choice(beginnings) if rng.random() < 0.5 else ()
        params = SamplingParams(
            temperature=rng.choice([0.0, 0.8, 1.5]),
            top_p=rng.choice([1.0, 0.9]),
            repetition_penalty=rng.choice([1.0, 1.0, 1.1]),
            logprobs=rng.choice([None, 0, 3]),
            prompt_logprobs=rng.choice([None, None, None, 0, 3]),
            max_tokens=rng.choice([1, 8, 30, _MAX_OUTPUT]),
            ignore_eos=rng.random() < 0.5,
            seed=index,
            constraint=rng.choice(_CONSTRAINTS) if rng.random() < 0.1 else None,
        )
        options = RequestOptions(priority=rng.choice([-1, 0, 0, 1]), tenant=rng.choice("abc"))
        cancel_after = rng.randrange(0, 30) if rng.random() < _CANCELLED_SHARE else None
        prompt = (beginning + ids(rng.randrange(1, 100)))[:max_prompt]
        specs.append(Spec(prompt, params, options, cancel_after))
    return specs


def answer(llm: LLM, spec: Spec) -> Answer:
    """Run one request to its terminal answer; every later chunk would raise."""
    stream = llm.stream(list(spec.prompt), spec.params, options=spec.options)
    token_ids: list[int] = []
    logprobs: list[float] = []
    prompt_logprobs: list[float] = []
    reasons: list[str] = []
    for number, chunk in enumerate(stream):
        if number == spec.cancel_after:
            stream.cancel()
        token_ids += chunk.token_ids
        logprobs += [entry.logprob for entry in chunk.logprobs or ()]
        prompt_logprobs += [entry.logprob for entry in chunk.prompt_logprobs or () if entry]
        reasons += [chunk.finish_reason] if chunk.finish_reason else []
    (reason,) = reasons
    return Answer(array("i", token_ids), array("d", logprobs), array("d", prompt_logprobs), reason)


def work(llm: LLM, specs: Iterator[tuple[int, Spec]], lock: threading.Lock, record: Record, tick: object) -> None:
    """Take requests until none is left."""
    while True:
        with lock:
            index, spec = next(specs, (-1, None))
        if spec is None:
            return
        try:
            got = answer(llm, spec)
        except (LeptonError, ValueError) as error:
            with lock:
                record.errors.append(f"request {index}: {error!r}")
            continue
        with lock:
            record.answers.setdefault(index, []).append(got)
            record.resident_bytes.append(resident_bytes())
            assert callable(tick)
            tick()


def soak(llm: LLM, specs: Sequence[Spec], num_threads: int, progress: Progress) -> Record:
    """All requests, from many threads."""
    record, lock = Record(), threading.Lock()
    task = progress.add_task("soaking", total=len(specs))
    numbered = iter(enumerate(specs))
    arguments = (llm, numbered, lock, record, lambda: progress.advance(task))
    threads = [threading.Thread(target=work, args=arguments) for _ in range(num_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return record


def compare_quietly(llm: LLM, specs: Sequence[Spec], record: Record, chosen: Sequence[int], progress: Progress) -> int:
    """How many of the chosen requests have other bits when they run alone; a cancelled one has the first of them."""
    task = progress.add_task("alone", total=len(chosen))
    differ = 0
    for index in chosen:
        (soaked,) = record.answers[index]
        spec = specs[index]
        alone = answer(llm, Spec(spec.prompt, spec.params, spec.options, None))
        if soaked.finish_reason == "cancelled":
            length = len(soaked.token_ids)
            logprobs = alone.logprobs[: len(soaked.logprobs)]
            prompt_logprobs = alone.prompt_logprobs[: len(soaked.prompt_logprobs)]
            alone = Answer(alone.token_ids[:length], logprobs, prompt_logprobs, "cancelled")
        differ += alone != soaked
        progress.advance(task)
    return differ


def run(options: argparse.Namespace, progress: Progress) -> dict[str, object]:
    """Soak, then compare. The figures that are reported."""
    length = options.max_model_len
    with LLM(options.model, kv_memory_bytes=options.kv_mib << 20, max_model_len=length, max_num_seqs=16) as llm:
        vocab_size = llm.model_info.vocab_size
        specs = make_specs(options.requests, vocab_size, options.seed, max_prompt=min(300, length - _MAX_OUTPUT))
        begin = time.perf_counter()
        record = soak(llm, specs, options.threads, progress)
        seconds = time.perf_counter() - begin
        llm._client.check_integrity()
        scheduler = llm._client._engine.scheduler
        num_preemptions, has_work = scheduler.counters.num_preemptions, scheduler.has_work
    answered = [index for index, answers in record.answers.items() if len(answers) == 1]
    chosen = random.Random(options.seed).sample(answered, min(options.alone, len(answered)))
    with LLM(options.model, max_model_len=length) as quiet:
        differ = compare_quietly(quiet, specs, record, chosen, progress)
    reasons = Counter(answers[0].finish_reason for answers in record.answers.values())
    num_tokens = sum(len(answers[0].token_ids) for answers in record.answers.values())
    figures: dict[str, object] = {
        "requests": len(specs),
        "answered_once": len(answered),
        "errors": record.errors,
        "finish_reasons": dict(reasons),
        "output_tokens": num_tokens,
        "seconds": round(seconds, 1),
        "preemptions": num_preemptions,
        "left_over": has_work,
        "compared_alone": len(chosen),
        "different_alone": differ,
        "memory_growth": round(growth(record.resident_bytes), 5),
    }
    figures["passed"] = passed(figures)
    return figures


def passed(figures: dict[str, object]) -> bool:
    """Whether everything that was looked at held."""
    growth_of_memory = figures["memory_growth"]
    assert isinstance(growth_of_memory, float)
    return (
        figures["answered_once"] == figures["requests"]
        and not figures["errors"]
        and not figures["left_over"]
        and bool(figures["preemptions"])
        and figures["different_alone"] == 0
        and growth_of_memory < MAX_GROWTH
    )


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=32, help="threads that send requests")
    parser.add_argument("--alone", type=int, default=300, help="requests that are run again, alone")
    parser.add_argument("--kv-mib", type=int, default=48, help="memory of the cache, in MiB")
    parser.add_argument("--max-model-len", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    console = Console(stderr=True)
    with Progress(console=console) as progress:
        figures = run(options, progress)
    for name, value in figures.items():
        print(f"{name:>16}  {value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0 if figures["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
