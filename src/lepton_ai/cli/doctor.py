"""``lepton doctor``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated

import typer

from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.cli.kernel_rates import (
    LIMIT_ROWS,
    NUM_ROWS,
    Bandwidth,
    KernelRate,
    MachineLimits,
    measure_bandwidth,
    measure_kernels,
    measure_limits,
)
from lepton_ai.cli.machine import (
    Choice,
    IndexAccess,
    Memory,
    Processor,
    Storage,
    Tuned,
    choose_instruction_set,
    choose_threads,
    read_index_access,
    read_memory,
    read_processor,
    read_storage,
    read_tuned,
    read_versions,
)
from lepton_ai.cli.options import Json, Threads
from lepton_ai.cli.output import format_bytes, print_json, print_line
from lepton_ai.cli.table import print_fields, print_table
from lepton_ai.config import Environment

Limits = Annotated[
    bool,
    typer.Option("--limits", help="Measure also what no step can exceed: reads by threads, products by rows."),
]


@dataclass(frozen=True, slots=True)
class Report:
    """All that the verb prints. ``limits`` are None unless asked for."""

    isa: Choice
    threads: Choice
    tuned: Tuned
    processor: Processor
    memory: Memory
    bandwidth: Bandwidth
    kernels: Sequence[KernelRate]
    storage: Storage
    index: IndexAccess
    versions: Mapping[str, str]
    limits: MachineLimits | None = None


def doctor(*, limits: Limits = False, threads: Threads = None, json: Json = False) -> None:
    """Show what this machine offers, what Lepton uses of it and why, and how fast it is. Takes some seconds.

    Rates are those of one linear layer, for one request that decodes (1 row) and for a piece of a prompt (64 rows), in
    billions of multiply-adds a second by the storage type of its weights.

    With --limits, reads are measured with 1 thread and more, and products without the quantising of their input, from
    1 row to 512: what `lepton bench --profile` holds against each op of a step.

    \b
    Examples:
      lepton doctor --threads 2
      lepton doctor --limits
    """
    report = examine(Environment.read(), threads)
    if limits:
        measured = measure_limits(report.isa.value, int(report.threads.value))
        report = replace(report, limits=measured)
    if json:
        print_json(asdict(report))
    else:
        _print_report(report)


def examine(environment: Environment, threads: int | None) -> Report:
    """Read and measure. Raises HardwareUnsupported if LEPTON_CPU_ISA names what this machine lacks."""
    processor = read_processor()
    isa = choose_instruction_set(environment)
    tuned = read_tuned(environment, isa.value)
    chosen_threads = choose_threads(processor, environment, threads, tuned.num_threads)
    num_threads = int(chosen_threads.value)
    return Report(
        isa=isa,
        threads=chosen_threads,
        tuned=tuned,
        processor=processor,
        memory=read_memory(),
        bandwidth=measure_bandwidth(CpuDevice(num_threads=num_threads, isa=isa.value)),
        kernels=measure_kernels(processor.available_isas, num_threads),
        storage=read_storage(environment),
        index=read_index_access(environment),
        versions=read_versions(),
    )


def _print_report(report: Report) -> None:
    processor, memory, bandwidth = report.processor, report.memory, report.bandwidth
    quota = "none" if processor.quota_cores is None else f"{processor.quota_cores:g} cores"
    limit = "none" if memory.limit_bytes is None else format_bytes(memory.limit_bytes)
    print_fields(
        [
            ("instruction set", f"{report.isa.value}: {report.isa.reason}"),
            ("threads", f"{report.threads.value}: {report.threads.reason}"),
            ("tuning", _tuning(report.tuned)),
            ("processor", f"{processor.name}, {processor.architecture}"),
            ("cores", f"{processor.num_cores}, of which {processor.num_allowed_cores} are allowed; quota: {quota}"),
            ("kernels for", _kernels_for(processor)),
            (
                "memory",
                f"{format_bytes(memory.total_bytes)}, {format_bytes(memory.available_bytes)} available; limit: {limit}",
            ),
            ("read from memory", f"{bandwidth.memory_bytes_per_s / 1e9:.1f} GB/s"),
            ("read from cache", f"{bandwidth.cache_bytes_per_s / 1e9:.1f} GB/s"),
            *_storage_fields(report.storage),
            *_index_fields(report.index),
            ("versions", ", ".join(f"{name} {version}" for name, version in report.versions.items())),
        ]
    )
    print_line()
    _print_kernels(report)
    if report.limits is not None:
        _print_limits(report.limits)


def _tuning(tuned: Tuned) -> str:
    if tuned.problem is not None:
        return f"unusable: {tuned.problem}"
    changes = ", ".join(f"{name} {value}" for name, value in tuned.changes.items())
    return f"{changes}: {tuned.source}" if changes else tuned.source


def _kernels_for(processor: Processor) -> str:
    labels = {isa: f"{isa} (not yet measured)" for isa in processor.unmeasured_isas}
    return ", ".join(labels.get(isa, isa) for isa in processor.available_isas)


def _storage_fields(storage: Storage) -> list[tuple[str, str]]:
    state = "writable" if storage.problem is None else f"not writable: {storage.problem}"
    packed = f"{format_bytes(storage.packed_bytes)} of at most {format_bytes(storage.max_packed_bytes)}"
    return [
        ("home", f"{storage.home}, {state}, {format_bytes(storage.free_bytes)} free"),
        ("packed weights", packed if storage.problem is None else "in memory, made at each start"),
    ]


def _index_fields(index: IndexAccess) -> list[tuple[str, str]]:
    if index.problem is not None:
        return [("package index", f"unusable: {index.problem}")]
    return [("package index", ", ".join(index.urls) or "none: pip is told no-index")]


def _print_kernels(report: Report) -> None:
    """A line for each weight type, a column for each instruction set and number of rows; the one in use is starred."""
    rates = {(rate.weight_type, rate.isa, rate.num_rows): rate.macs_per_s for rate in report.kernels}
    columns = [(isa, num_rows) for isa in report.processor.available_isas for num_rows in NUM_ROWS]
    headers = [f"{isa}{'*' if isa == report.isa.value else ''} x{num_rows}" for isa, num_rows in columns]
    types = dict.fromkeys(rate.weight_type for rate in report.kernels)
    rows = [[name, *(f"{rates[name, isa, n] / 1e9:.1f}" for isa, n in columns)] for name in types]
    print_table(["GMAC/s", *headers], rows, right=headers)
    print_line("* in use; xN: N rows in flight")


def _print_limits(limits: MachineLimits) -> None:
    print_line()
    headers = ["memory", "cache"]
    reads = [(each.num_threads, each.bandwidth) for each in limits.reads]
    shown = [[str(n), f"{b.memory_bytes_per_s / 1e9:.1f}", f"{b.cache_bytes_per_s / 1e9:.1f}"] for n, b in reads]
    print_table(["GB/s by threads", *headers], shown, right=headers)
    print_line()
    rates = {(rate.weight_type, rate.num_rows): rate.macs_per_s for rate in limits.products}
    headers = [f"x{num_rows}" for num_rows in LIMIT_ROWS]
    types = dict.fromkeys(rate.weight_type for rate in limits.products)
    rows = [[name, *(f"{rates[name, n] / 1e9:.1f}" for n in LIMIT_ROWS)] for name in types]
    print_table(["GMAC/s, kernels alone", *headers], rows, right=headers)
