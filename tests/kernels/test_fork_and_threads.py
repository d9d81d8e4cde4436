"""The thread pool: after fork, under many Python threads, with more threads than cores."""

from __future__ import annotations

import os
import subprocess
import sys
import time
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


def _cpu_seconds(num_threads: int) -> float:
    """Processor time of 300 products that are soon done, by threads that start now."""
    case, device = matrix_case(), CpuDevice(num_threads=num_threads)
    backend = CpuBackend(device)
    executable = backend.compile(case.graph, case.store(), case.limits, policy=case.policy)
    cache, inputs = backend.allocate_kv([], []), plain_step({"x": normal((1, 256), 1)})
    executable.run(inputs, cache)
    start = time.process_time()
    for _ in range(300):
        executable.run(inputs, cache)
    return time.process_time() - start


@pytest.mark.parametrize("num_threads", [2, 4])
def test_threads_without_a_core_are_not_spun_for(num_threads: int) -> None:
    # On one core, whoever spins keeps who is waited for from running. Spins alone took 500 us a product.
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        alone = min(_cpu_seconds(1) for _ in range(3))
        together = min(_cpu_seconds(num_threads) for _ in range(3))
    finally:
        os.sched_setaffinity(0, allowed)
    assert together < alone + 300 * num_threads * 60e-6


def test_idle_threads_sleep() -> None:
    device = CpuDevice(num_threads=3)
    product(device, 40)
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        start = time.process_time()
        time.sleep(0.05)
        if time.process_time() - start < 0.02:
            break
        assert time.monotonic() < deadline, "they spin still"
    assert device.num_threads == 3
