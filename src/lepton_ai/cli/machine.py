"""What this machine offers, what Lepton takes of it, and why: the facts of ``lepton doctor``, nothing measured."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.cores import cgroup_cores, usable_cores
from lepton_ai.backends.cpu.device import MEASURED_ISAS, choose_isa
from lepton_ai.backends.cpu.host import processor_name
from lepton_ai.backends.cpu.tuned_host import FILE_NAME, tuning_in_force
from lepton_ai.backends.cpu.tuning import Tuning
from lepton_ai.config import Environment
from lepton_ai.engine.kv.sizing import available_memory_bytes
from lepton_ai.errors import InvalidRequest, LeptonError
from lepton_ai.version import __version__
from lepton_ai.weights.packed import DEFAULT_MAX_BYTES, PackedCache
from lepton_ai.weights.sources.pip_config import read_index_config
from lepton_ai.weights.sources.urls import mask

_PACKAGES = ("numpy", "tokenizers", "jinja2", "rich", "typer")


@dataclass(frozen=True, slots=True)
class Processor:
    """Cores and instruction sets. ``available_isas`` are those that this build has kernels for, the best first;
    ``unmeasured_isas`` those of them that run only where they are asked for, until they are measured.

    ``quota_cores`` is None without a control group's quota.
    """

    name: str
    architecture: str
    num_cores: int
    num_allowed_cores: int
    quota_cores: float | None
    available_isas: tuple[str, ...]
    unmeasured_isas: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """What is used, and why."""

    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class Tuned:
    """How kernels are tuned. ``numbers`` are all by name, ``changes`` those that are not the defaults;
    ``num_threads`` is None if none are stored. ``problem`` says what is wrong with what is stored.
    """

    num_threads: int | None
    numbers: Mapping[str, int]
    changes: Mapping[str, int]
    source: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class Memory:
    """``available_bytes`` is what a process could take now, within ``limit_bytes`` of its control group."""

    total_bytes: int
    available_bytes: int
    limit_bytes: int | None


@dataclass(frozen=True, slots=True)
class Storage:
    """The home folder. ``problem`` says why it cannot be written; packing then happens in memory, at each start."""

    home: str
    free_bytes: int
    packed_bytes: int
    max_packed_bytes: int
    problem: str | None


@dataclass(frozen=True, slots=True)
class IndexAccess:
    """Where ``lepton pull`` looks, without credentials. ``problem`` says what is wrong with pip's configuration."""

    urls: tuple[str, ...]
    problem: str | None


def read_processor() -> Processor:
    """The processor as the operating system shows it to this process."""
    available_isas = tuple(_native.available_isas())
    return Processor(
        name=processor_name(),
        architecture=platform.machine(),
        num_cores=os.cpu_count() or 1,
        num_allowed_cores=len(os.sched_getaffinity(0)),
        quota_cores=cgroup_cores(),
        available_isas=available_isas,
        unmeasured_isas=tuple(isa for isa in available_isas if isa not in MEASURED_ISAS),
    )


def choose_instruction_set(environment: Environment) -> Choice:
    """As the CPU backend chooses it. Raises HardwareUnsupported for one that this machine lacks."""
    isa = choose_isa(environment.cpu_isa)
    if environment.cpu_isa:
        measured = "" if isa in MEASURED_ISAS else ", though it is not yet measured"
        return Choice(isa, f"LEPTON_CPU_ISA asks for it{measured}")
    is_best = isa == _native.available_isas()[0]
    return Choice(isa, "the best that this machine runs" if is_best else "the best measured one that this machine runs")


def read_tuned(environment: Environment, isa: str) -> Tuned:
    """As devices are tuned, and what is stored."""
    try:
        found = tuning_in_force(environment.home, isa)
    except LeptonError as error:
        return Tuned(None, asdict(Tuning.default(isa)), {}, "nothing loads until it is mended", error.message)
    default = asdict(Tuning.default(isa))
    numbers = asdict(found.tuning)
    changes = {name: value for name, value in numbers.items() if value != default[name]}
    if found.evidence is None:
        return Tuned(None, numbers, changes, found.source, None)
    measured = " ".join(f"{found.evidence.get(name)!s:.40}" for name in ("measured_at", "model"))
    return Tuned(found.num_threads, numbers, changes, f"{found.source}, measured {measured}", None)


def choose_threads(
    processor: Processor, environment: Environment, requested: int | None, tuned: int | None = None
) -> Choice:
    """As ``LLM`` chooses them: ``requested`` is ``--threads``, ``tuned`` what ``lepton tune`` found."""
    if requested is not None:
        return Choice(str(requested), "--threads asks for them")
    if environment.num_threads is not None:
        return Choice(str(environment.num_threads), "LEPTON_NUM_THREADS asks for them")
    if tuned is not None:
        return Choice(str(tuned), f"{FILE_NAME} says so, which `lepton tune` made")
    num_threads = usable_cores()
    if num_threads < processor.num_allowed_cores:
        return Choice(str(num_threads), f"the control group's quota is {processor.quota_cores:g} cores")
    if processor.num_allowed_cores < processor.num_cores:
        return Choice(str(num_threads), "the affinity mask allows no more cores")
    return Choice(str(num_threads), "one for each core")


def read_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> Memory:
    """Memory of the machine and of this process's control group."""
    total_kib = next(
        line.split()[1] for line in (proc / "meminfo").read_text().splitlines() if line.startswith("MemTotal:")
    )
    return Memory(int(total_kib) * 1024, available_memory_bytes(proc, cgroup), _memory_limit(cgroup))


def _memory_limit(cgroup: Path) -> int | None:
    for path in (cgroup / "memory.max", cgroup / "memory/memory.limit_in_bytes"):
        try:
            limit = int(path.read_text())
        except (OSError, ValueError):  # no such version of control groups, or no limit ("max")
            continue
        return limit if limit < 1 << 62 else None  # version 1 writes its largest number for none
    return None


def read_storage(environment: Environment) -> Storage:
    """The home folder, which is not created."""
    home = environment.home
    existing = next(folder for folder in (home, *home.absolute().parents) if folder.exists())
    problem = None
    if not existing.is_dir():
        problem = f"{existing} is not a folder"
    elif not os.access(existing, os.W_OK | os.X_OK):
        problem = f"{existing} cannot be written"
    return Storage(
        home=str(home),
        free_bytes=shutil.disk_usage(existing).free,
        packed_bytes=_folder_bytes(PackedCache(home).folder),
        max_packed_bytes=DEFAULT_MAX_BYTES,
        problem=problem,
    )


def _folder_bytes(folder: Path) -> int:
    try:
        return sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(folder))
    except OSError:
        return 0


def read_index_access(environment: Environment) -> IndexAccess:
    """The indexes that pip and LEPTON_INDEX_URL name; nothing is asked of them."""
    try:
        config = read_index_config(environment.index_url)
    except InvalidRequest as error:
        return IndexAccess((), error.message)
    return IndexAccess(tuple(mask(url) for url in (*config.find_links, *config.index_urls)), None)


def read_versions() -> Mapping[str, str]:
    """Lepton, Python and the packages that the core stands on, by name."""
    packages = {package: metadata.version(package) for package in _PACKAGES}
    return {"lepton": __version__, "python": platform.python_version(), **packages}
