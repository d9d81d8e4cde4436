"""Rates of the linear kernels on one thread: GMAC/s by storage type, rows in flight and instruction set.

    python -m bench.kernels --isa avx2 --types Q4_0 Q8_0 --rows 1 4 16 128

Time is the thread's processor time, so that a busy machine disturbs it less. One matrix stays in the cache nearest to
memory that holds it: this is the arithmetic, not the memory.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from lepton_ai.backends.base import KVGroupInputs, StepInputs
from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.cpu.executable import CpuExecutable
from lepton_ai.config import Limits, Policy
from lepton_ai.graph import ops
from lepton_ai.graph.tensor import DType, Weight, symbol
from lepton_ai.graph.trace import Trace
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.store import StoredTensor

_PASSES = 5


class RandomStore:
    """One matrix of random bytes with finite scales."""

    digest = "random"

    def __init__(self, weight_type: WeightType, shape: tuple[int, int]) -> None:
        data = np.random.default_rng(0).integers(0, 60, weight_type.num_bytes(shape), np.uint8)
        self._tensor = StoredTensor("w", shape, weight_type, data)

    def names(self) -> Sequence[str]:
        """The one name."""
        return ("w",)

    def get(self, name: str) -> StoredTensor:
        """The one matrix."""
        return self._tensor

    def release(self, name: str) -> None:
        """Nothing: it is in memory."""


def linear(isa: str, weight_type: WeightType, shape: tuple[int, int], rows: int, policy: Policy) -> CpuExecutable:
    """An executable that is one linear op (its input quantised first, under ``auto``)."""
    trace = Trace()
    x = trace.input("x", (symbol("T"), shape[1]), DType.F32)
    graph = trace.finish([ops.linear(x, Weight("w", shape), name="y")])
    backend = CpuBackend(CpuDevice(num_threads=1, isa=isa))
    return backend.compile(graph, RandomStore(weight_type, shape), Limits(max_tokens=rows), policy=policy)


def gmacs(isa: str, weight_type: WeightType, shape: tuple[int, int], rows: int, policy: Policy) -> float:
    """10^9 multiply-adds a second: the best of a few passes of about 20 ms."""
    executable = linear(isa, weight_type, shape, rows, policy)
    executable.set_timing(enabled=True)
    one = np.zeros(1, np.int32)
    x = np.random.default_rng(1).standard_normal((rows, shape[1])).astype(np.float32)
    inputs = StepInputs(
        token_ids=np.zeros(rows, np.int32),
        positions=np.arange(rows, dtype=np.int32),
        query_offsets=np.array([0, rows], np.int32),
        kv_lengths=np.array([rows], np.int32),
        kv_groups=[KVGroupInputs(np.zeros((1, rows // 16 + 1), np.int32))],
        logit_rows=one,
        tensors={"x": x},
    )
    cache = CpuBackend(CpuDevice(num_threads=1, isa=isa)).allocate_kv([], 1)
    work, best = rows * shape[0] * shape[1], 0.0
    repeats = max(1, int(20e-3 * 30e9 / work))
    for _ in range(_PASSES):
        begin = time.thread_time()
        for _ in range(repeats):
            executable.run(inputs, cache)
        best = max(best, work * repeats / (time.thread_time() - begin))
    return best / 1e9


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", nargs="*", default=_native.available_isas())
    parser.add_argument("--types", nargs="*", default=[t.value for t in WeightType])
    parser.add_argument("--rows", nargs="*", type=int, default=[1, 2, 4, 8, 16, 128])
    parser.add_argument("--shape", nargs=2, type=int, default=[1536, 768], help="outputs and inputs")
    parser.add_argument("--policy", default="auto")
    arguments = parser.parse_args()
    table = Table("isa", "type", *[f"{rows} rows" for rows in arguments.rows], title="GMAC/s on one thread")
    shape = (arguments.shape[0], arguments.shape[1])
    for isa in arguments.isa:
        for name in arguments.types:
            policy = Policy.parse(arguments.policy)
            rates = [gmacs(isa, WeightType(name), shape, rows, policy) for rows in arguments.rows]
            table.add_row(isa, name, *[f"{rate:.1f}" for rate in rates])
    Console().print(table)


if __name__ == "__main__":
    main()
