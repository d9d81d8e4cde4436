"""A worker that stands for the machine's memory: it decodes in the time that reading a step's bytes takes, by Lepton's
own account of them and at the bandwidth measured at that moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

import lepton_ai
from bench.channel import standard_channel
from bench.peers.own_build import own_digest
from bench.serving import EngineInfo, serve, worker_parser
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.cpu.executable import CpuExecutable
from lepton_ai.backends.cpu.work import CpuOp, StepShape
from lepton_ai.cli.kernel_rates import measure_bandwidth
from lepton_ai.config import Environment
from lepton_ai.engine.decoder import Decoder
from lepton_ai.engine.load_options import LoadOptions, parse_kv_dtype
from lepton_ai.engine.loading import load


class MemoryEngine:
    """A ``serving.BenchEngine`` that decodes only."""

    def __init__(self, path: Path, *, num_threads: int, kv_dtype: str | None) -> None:
        loaded = load(path, LoadOptions(num_threads=num_threads, kv_dtype=parse_kv_dtype(kv_dtype)), Environment.read())
        assert isinstance(loaded.runtime, Decoder) and isinstance(loaded.runtime.executable, CpuExecutable)
        self._loaded = loaded
        self._ops = loaded.runtime.executable.ops
        self._device = CpuDevice(num_threads=num_threads, isa=loaded.device.isa)

    @property
    def info(self) -> EngineInfo:
        """What reads."""
        isa = self._loaded.device.isa
        return EngineInfo(
            "memory", f"Lepton {lepton_ai.__version__}", isa, self._device.num_threads, f"memory-{own_digest()}-{isa}"
        )

    def prefill(self, prompt: Sequence[int]) -> float:
        """Not bound by memory."""
        raise NotImplementedError("prefill: memory only decodes")

    def decode(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> float:
        """Seconds of reading what ``num_tokens`` steps read, one of which is read again and again now."""
        lengths = [len(prompt) for prompt in prompts]
        steps = [step_bytes(self._ops, [length + 1 + step for length in lengths]) for step in range(num_tokens)]
        return sum(steps) / measure_bandwidth(self._device, max(steps)).memory_bytes_per_s

    def logits(self, token_ids: Sequence[int]) -> Iterator[npt.NDArray[np.float32]]:
        """It has none."""
        raise NotImplementedError("logits: memory only decodes")


def step_bytes(ops: Sequence[CpuOp], kv_lengths: Sequence[int]) -> int:
    """Weights, keys and values of a step that decodes a token of each sequence, and has so many then."""
    shape = StepShape((1,) * len(kv_lengths), tuple(kv_lengths), len(kv_lengths))
    works = [op.work(shape) for op in ops]
    return sum(work.weight_bytes + work.kv_bytes for work in works)


def main() -> None:
    """Serve on the standard streams."""
    parser = worker_parser()
    parser.add_argument("--kv-dtype")
    arguments = parser.parse_args()
    channel = standard_channel()
    serve(MemoryEngine(arguments.model, num_threads=arguments.threads, kv_dtype=arguments.kv_dtype), channel)


if __name__ == "__main__":
    main()
