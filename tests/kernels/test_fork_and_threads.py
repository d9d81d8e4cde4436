"""The thread pool: after fork, under many Python threads, with more threads than cores."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.kernels.harness import Case, Floats, copied, normal, plain_step
from tests.kernels.test_linear import linear_case
from tests.models.tiny import random_tensor

from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.config import Policy
from lepton_ai.weights.formats import WeightType

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60

FORK = """
import os, sys
import numpy as np
from tests.kernels.test_fork_and_threads import product
from lepton_ai.backends.cpu.device import CpuDevice

device = CpuDevice(num_threads=2)
before = product(device, 40)
pid = os.fork()
if pid == 0:
    same = np.array_equal(product(device, 40), before) and np.array_equal(product(CpuDevice(num_threads=2), 40), before)
    grandchild = os.fork()
    if grandchild == 0:
        os._exit(0 if np.array_equal(product(device, 40), before) else 1)
    os._exit(0 if same and os.waitpid(grandchild, 0)[1] == 0 else 1)
status = os.waitpid(pid, 0)[1]
sys.exit(0 if status == 0 and np.array_equal(product(device, 40), before) else 1)
"""


def matrix_case() -> Case:
    return linear_case([random_tensor("w", (200, 256), WeightType.Q4_1, seed=1)], Policy.AUTO)


def product(device: CpuDevice, num_rows: int) -> Floats:
    """A product that is cut into many chunks."""
    (outputs,) = matrix_case().on_cpu(device, [plain_step({"x": normal((num_rows, 256), 2)})])
    return outputs["y0"]


def test_a_forked_child_has_threads_of_its_own() -> None:
    # In a process of its own: newer Pythons warn of forks where threads run, and a hang must end.
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    path = [str(ROOT / "src"), str(ROOT)]
    done = subprocess.run(
        command, env={"PYTHONPATH": ":".join(path)}, timeout=TIMEOUT_S, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("num_threads", [3, 8, 17])
def test_more_threads_than_cores(num_threads: int) -> None:
    want = product(CpuDevice(num_threads=1), 40)
    device = CpuDevice(num_threads=num_threads)
    for _ in range(3):
        assert np.array_equal(product(device, 40), want)


def test_python_threads_share_a_device() -> None:
    device, case = CpuDevice(num_threads=2), matrix_case()
    backend = CpuBackend(device)

    def work(seed: int) -> bool:
        executable = backend.compile(case.graph, case.store(), case.limits, policy=case.policy)
        cache, step = backend.allocate_kv([], []), plain_step({"x": normal((9, 256), seed)})
        first = copied(executable.run(step, cache).result())["y0"]
        again = [copied(executable.run(step, cache).result())["y0"] for _ in range(20)]
        return all(np.array_equal(first, y) for y in again) and np.array_equal(first, alone(seed))

    def alone(seed: int) -> Floats:
        return case.on_cpu(CpuDevice(num_threads=1), [plain_step({"x": normal((9, 256), seed)})])[0]["y0"]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8), timeout=TIMEOUT_S))


def test_devices_come_and_go() -> None:
    want = product(CpuDevice(num_threads=1), 3)
    for _ in range(30):
        assert np.array_equal(product(CpuDevice(num_threads=2), 3), want)
    for _ in range(30):
        CpuDevice(num_threads=2)  # ends before its threads have begun anything
