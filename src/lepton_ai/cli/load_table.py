"""Loads as tables: what the server did, then how long its clients waited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lepton_ai.cli.output import print_line
from lepton_ai.cli.table import print_fields, print_table
from lepton_ai.loadgen.benchmark import Benchmark
from lepton_ai.loadgen.statistics import Report, Spread


def print_benchmark(benchmark: Benchmark) -> None:
    """Print all of them."""
    reports = benchmark.reports
    print_fields(
        [
            ("model", benchmark.model),
            ("version of the server", benchmark.server_version or "-"),
            ("prompts", benchmark.prompt_form),
        ]
    )
    print_line()
    columns = [_rates(row) for row in reports]
    headers = tuple(columns[0])
    print_table(headers, [tuple(column.values()) for column in columns], right=headers)
    print_line()
    name = load_name(reports)
    headers = (name, "milliseconds", "mean", "p50", "p90", "p99")
    rows = [(load_value(row), label, *_figures(spread)) for row in reports for label, spread in waits(row).items()]
    print_table(headers, rows, right=(name, "mean", "p50", "p90", "p99"))
    for line in _remarks(reports):
        print_line(line)


def load_name(reports: Sequence[Report]) -> str:
    """What distinguishes loads."""
    return "requests/s asked" if reports[0].clients is None else "clients"


def load_value(row: Report) -> str:
    """Which load it is."""
    return f"{row.rate_per_s:g}" if row.clients is None else str(row.clients)


def waits(row: Report) -> Mapping[str, Spread | None]:
    """How long clients waited, by what they waited for."""
    return {
        "to the first token": row.first_token,
        "between tokens": row.between_tokens,
        "per output token": row.per_output_token,
        "whole answer": row.latency,
    }


def _rates(row: Report) -> dict[str, str]:
    per_token = row.client_cpu_s_per_token
    goodput = {} if row.goodput is None else {"kept": f"{100 * row.goodput.share:.0f} %"}
    return {
        load_name([row]): load_value(row),
        "answered": str(row.num_answered),
        "refused": str(row.num_refused),
        "failed": str(sum(row.failures.values())),
        "seconds": f"{row.elapsed_s:.1f}",
        "requests/s": f"{row.requests_per_s:.2f}",
        "output tokens/s": f"{row.output_tokens_per_s:.1f}",
        "tokens/s": f"{row.total_tokens_per_s:.1f}",
        **goodput,
        "client us/token": "-" if per_token is None else f"{1e6 * per_token:.0f}",
        "client cores": f"{row.client_cores:.3f}",
    }


def _figures(spread: Spread | None) -> tuple[str, ...]:
    if spread is None:
        return ("-",) * 4
    return tuple(f"{1e3 * value:.1f}" for value in (spread.mean, spread.p50, spread.p90, spread.p99))


def _remarks(reports: Sequence[Report]) -> list[str]:
    """What a reader of the tables must know."""
    lines = []
    name = load_name(reports)
    for row in reports:
        place = f"{name} {load_value(row)}"
        lines += [f"{place}: {count} failed: {kind}" for kind, count in row.failures.items()]
        if row.num_short:
            lines.append(f"{place}: {row.num_short} answers are shorter than was asked for")
        if row.cached_tokens:
            share = 100 * row.cached_tokens / row.prompt_tokens
            lines.append(f"{place}: {share:.0f} % of the prompts' tokens were cached")
        if row.pieces_per_token is not None and not 0.9 <= row.pieces_per_token <= 1:
            lines.append(f"{place}: {row.pieces_per_token:.2f} pieces of text a token")
        if row.send_delay is not None and row.send_delay.p99 > 0.01:
            lines.append(f"{place}: requests were sent late, p99 {1e3 * row.send_delay.p99:.0f} ms: the client is slow")
    return ["", *lines] if lines else []
