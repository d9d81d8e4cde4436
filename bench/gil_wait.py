"""How much longer the Python of a step takes while another thread of the process parses large JSON bodies.

    python -m bench.gil_wait [--model smollm2] [--threads 2]

A native step releases the GIL, and Python needs it again right after. Who holds it then keeps it for an interval of
``sys.getswitchinterval()``, or to the end of a call into C that does not look up meanwhile, such as ``json.loads``. The
same parser in a process of its own takes as much of the processor and no GIL: what is between the two is the wait.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.peers.workloads import FIRST_ORDINARY_ID
from lepton_ai import LLM, SamplingParams, StepTrace

NUM_ROWS = 16
BODY_BYTES = 1_000_000

_PROMPT_TOKENS = 16
_WARM_UP_STEPS = 8
_PARSE = """\
import json, sys
body = sys.stdin.read()
json.loads(body)
print(flush=True)
while True:
    json.loads(body)
"""
_MESSAGE = {"role": "user", "content": "Why is the sky blue? " * 20}


@dataclass(frozen=True, slots=True)
class Distribution:
    """Of some milliseconds."""

    median: float
    p99: float
    most: float


def distribution(seconds: Sequence[float]) -> Distribution:
    """In milliseconds, of at least one value."""
    median, p99, most = (1e3 * float(value) for value in np.percentile(seconds, (50, 99, 100)))
    return Distribution(median, p99, most)


def outside_kernels(steps: Sequence[StepTrace]) -> list[float]:
    """Seconds from the start of each step but the last to that of the next, without those of its kernels."""
    return [after.start_s - step.start_s - sum(step.kernel_s.values()) for step, after in pairwise(steps)]


def make_body(num_bytes: int) -> str:
    """A request for a chat of about that size, as a server gets it."""
    count = num_bytes // len(json.dumps(_MESSAGE)) + 1
    return json.dumps({"messages": [_MESSAGE] * count})


@contextmanager
def parsing_thread(body: str) -> Iterator[None]:
    """Another thread parses ``body`` again and again meanwhile."""
    is_done = threading.Event()

    def parse() -> None:
        while not is_done.is_set():
            json.loads(body)

    thread = threading.Thread(target=parse)
    thread.start()
    try:
        yield
    finally:
        is_done.set()
        thread.join()


@contextmanager
def parsing_process(body: str) -> Iterator[None]:
    """Another process does."""
    command = (sys.executable, "-c", _PARSE)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(body)
            process.stdin.close()
            process.stdout.readline()
            yield
        finally:
            process.kill()


def decode(llm: LLM, num_steps: int) -> list[StepTrace]:
    """Decode steps of ``NUM_ROWS`` requests, as the engine tells of them."""
    rng = np.random.default_rng(0)
    vocab_size = llm.model_info.vocab_size
    prompts = rng.integers(FIRST_ORDINARY_ID, vocab_size - FIRST_ORDINARY_ID, (NUM_ROWS, _PROMPT_TOKENS))
    params = SamplingParams(temperature=0.0, max_tokens=_WARM_UP_STEPS + num_steps, ignore_eos=True)
    steps: list[StepTrace] = []
    with llm.trace(steps.append):
        llm.generate([prompt.tolist() for prompt in prompts], params)
    return steps[_WARM_UP_STEPS:]


def parse_ms(body: str) -> float:
    """Milliseconds that one body takes, the best of some."""
    seconds = []
    for _ in range(10):
        begin = time.perf_counter()
        json.loads(body)
        seconds.append(time.perf_counter() - begin)
    return 1e3 * min(seconds)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.gil_wait", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    body = make_body(BODY_BYTES)
    cases: dict[str, AbstractContextManager[None]] = {
        "alone": nullcontext(),
        "a process parses": parsing_process(body),
        "a thread parses": parsing_thread(body),
    }
    table = Table("beside the engine", "median", "p99", "longest", "whole step", title="ms of a step outside kernels")
    with LLM(arguments.model, num_threads=arguments.threads, max_num_seqs=NUM_ROWS, max_model_len=1024) as llm:
        for name, case in cases.items():
            with case:
                steps = decode(llm, arguments.steps)
            outside = distribution(outside_kernels(steps))
            whole = distribution([after.start_s - step.start_s for step, after in pairwise(steps)])
            figures = (outside.median, outside.p99, outside.most, whole.median)
            table.add_row(name, *(f"{value:.2f}" for value in figures))
    console = Console()
    console.print(table)
    console.print(f"a body of {len(body) / 1e6:.1f} MB takes {parse_ms(body):.1f} ms alone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
