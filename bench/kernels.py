"""Rates of the linear kernels on one thread: GMAC/s by storage type, rows in flight and instruction set.

    python -m bench.kernels --isa avx2 --types Q4_0 Q8_0 --rows 1 4 16 128

Time is the thread's processor time, so that a busy machine disturbs it less. One matrix stays in the cache nearest to
memory that holds it: this is the arithmetic, not the memory. `lepton doctor` measures the same on all threads.
"""

from __future__ import annotations

import argparse
import time

from rich.console import Console
from rich.table import Table

from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.cli.kernel_rates import measure_linear
from lepton_ai.config import Policy
from lepton_ai.weights.formats import WeightType


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
    shape, policy = (arguments.shape[0], arguments.shape[1]), Policy.parse(arguments.policy)
    for isa in arguments.isa:
        backend = CpuBackend(CpuDevice(num_threads=1, isa=isa))
        for name in arguments.types:
            rates = [
                measure_linear(backend, WeightType(name), rows, shape=shape, policy=policy, clock=time.thread_time)
                for rows in arguments.rows
            ]
            table.add_row(isa, name, *[f"{rate / 1e9:.1f}" for rate in rates])
    Console().print(table)


if __name__ == "__main__":
    main()
