"""Which part of a decoding step is Python: scheduling, inputs and outputs, text.

    python -m bench.python_share [--model smollm2] [--threads 2]

The rest is what the native program's own clock says of its ops.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from bench.figures import Figure, add_output_options, report
from bench.peers.workloads import FIRST_ORDINARY_ID
from lepton_ai import SamplingParams
from lepton_ai.backends.cpu.executable import CpuExecutable
from lepton_ai.config import Environment
from lepton_ai.engine.decoder import Decoder
from lepton_ai.engine.generator import Generator
from lepton_ai.engine.load_options import LoadOptions
from lepton_ai.engine.loading import LoadedModel, load
from lepton_ai.engine.stream import Stream

MAX_SHARE = 0.05

_PROMPT_TOKENS = 16
_WARM_UP_STEPS = 8


def python_share(loaded: LoadedModel, *, num_rows: int, num_steps: int) -> float:
    """Share of ``num_steps`` steps of ``num_rows`` requests, streamed as a caller would, that is not native."""
    assert isinstance(loaded.runtime, Decoder)
    executable = loaded.runtime.executable
    assert isinstance(executable, CpuExecutable)
    with _streams(loaded, num_rows, _WARM_UP_STEPS + num_steps) as streams:
        for _ in range(_WARM_UP_STEPS):
            _step(streams)
        executable.set_timing(enabled=True)
        executable.take_seconds()
        begin = time.perf_counter()
        for _ in range(num_steps):
            _step(streams)
        wall = time.perf_counter() - begin
        native = sum(executable.take_seconds().values())
        executable.set_timing(enabled=False)
    return (wall - native) / wall


@contextmanager
def _streams(loaded: LoadedModel, num_rows: int, num_tokens: int) -> Iterator[list[Stream]]:
    decoder = loaded.runtime
    assert isinstance(decoder, Decoder)
    client = Generator(decoder, loaded.texts.tokenizer, loaded.texts.eos_ids).client
    params = SamplingParams(temperature=0.0, max_tokens=num_tokens + 1, ignore_eos=True)
    vocab_size = decoder.model.config.vocab_size
    rng = np.random.default_rng(0)
    prompts = rng.integers(FIRST_ORDINARY_ID, vocab_size - FIRST_ORDINARY_ID, (num_rows, _PROMPT_TOKENS))
    try:
        yield [Stream(client, client.submit(prompt.tolist(), params)) for prompt in prompts]
    finally:
        client.close()


def _step(streams: list[Stream]) -> None:
    """One token of each: the first stream runs the step, the others find theirs made."""
    for stream in streams:
        next(stream)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.python_share", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=200)
    add_output_options(parser)
    arguments = parser.parse_args()
    options = LoadOptions(num_threads=arguments.threads, max_num_seqs=16, max_model_len=1024)
    loaded = load(arguments.model, options, Environment.read())
    shares = {n: python_share(loaded, num_rows=n, num_steps=arguments.steps) for n in (1, 16)}
    loaded.close()
    figures = [
        Figure(f"Python in a step of {n} row{'s' * (n > 1)}", 100 * share, 100 * MAX_SHARE, "%")
        for n, share in shares.items()
    ]
    return report(figures, arguments)


if __name__ == "__main__":
    sys.exit(main())
