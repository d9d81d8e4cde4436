"""The side-by-side table: on a terminal, in Markdown, in JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from bench.cases import Case
from bench.model_files import ModelFile
from bench.pairs import PairedRates
from bench.serving import EngineInfo
from lepton_ai.engine.quality import Divergence

TABLE_WIDTH = 150

COLUMNS = (
    "file",
    "sha256",
    "body / head bits",
    "workload",
    "Lepton tok/s",
    "KL",
    "llama.cpp tok/s",
    "KL",
    "ratio",
    "target",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One case, measured. Divergences are None if there was no text to measure them on."""

    case: Case
    file: ModelFile
    rates: PairedRates
    our_divergence: Divergence | None
    their_divergence: Divergence | None

    @property
    def is_reached(self) -> bool:
        """Whether the ratio is at least the target."""
        return self.rates.ratio >= self.case.target_ratio


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run."""

    ours: EngineInfo
    theirs: EngineInfo
    num_pairs: int
    rows: tuple[Row, ...]


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, in the order of COLUMNS."""
    return (
        row.case.form,
        row.file.digest[:12],
        f"{row.file.body_bits:.2f} / {row.file.head_bits:.2f}",
        row.case.workload.name,
        f"{row.rates.our_median:.0f}",
        _divergence(row.our_divergence),
        f"{row.rates.their_median:.0f}",
        _divergence(row.their_divergence),
        ratio_cell(row.rates),
        f"{row.case.target_ratio:g} {'reached' if row.is_reached else 'missed'}",
    )


def print_table(report: Report, console: Console) -> None:
    """The table with a head that says what ran."""
    table = Table(title=_title(report), caption=_CAPTION)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("file", "sha256", "workload") else "right")
    for row in report.rows:
        table.add_row(*cells(row), style=None if row.is_reached else "yellow")
    console.print(table)


def to_markdown(report: Report) -> str:
    """The table for docs/benchmarks.md."""
    return markdown_table(_title(report), COLUMNS, [cells(row) for row in report.rows], _CAPTION)


def to_json(report: Report) -> dict[str, object]:
    """All figures."""
    return {
        "lepton": _engine(report.ours),
        "llama_cpp": _engine(report.theirs),
        "num_pairs": report.num_pairs,
        "rows": [_row(row) for row in report.rows],
    }


def ratio_cell(rates: PairedRates) -> str:
    """The ratio with its range."""
    low, high = rates.ratio_range
    return f"{rates.ratio:.2f} ({low:.2f}-{high:.2f})"


def markdown_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """A table between its title and its caption."""
    lines = [f"| {' | '.join(values)} |" for values in (columns, ["---"] * len(columns), *rows)]
    return "\n".join([title, "", *lines, "", caption]) + "\n"


_CAPTION = (
    "tok/s: medians over pairs; ratio: median of the pairs' ratios (least-greatest). "
    "KL: KL(exact || engine), mean nats a token on the same text. Bits include scales."
)


def _title(report: Report) -> str:
    threads = report.ours.num_threads
    isas = f"Lepton {report.ours.isa}, {report.theirs.version} {_width(report.theirs.isa)}"
    return f"{isas}; {threads} thread{'s' if threads > 1 else ''} each, {report.num_pairs} interleaved pairs"


def _width(features: str) -> str:
    """The widest instruction set that llama.cpp was built for."""
    names = features.split()
    return next((name for name in ("AVX512_VNNI", "AVX512", "AVX_VNNI", "AVX2", "NEON") if name in names), "generic")


def _divergence(divergence: Divergence | None) -> str:
    return "-" if divergence is None else f"{divergence.kl_divergence:.4f}"


def _engine(info: EngineInfo) -> dict[str, object]:
    return {"version": info.version, "isa": info.isa, "num_threads": info.num_threads}


def _row(row: Row) -> dict[str, object]:
    return {
        "form": row.case.form,
        "digest": row.file.digest,
        "body_bits": row.file.body_bits,
        "head_bits": row.file.head_bits,
        "workload": row.case.workload.name,
        "lepton_tokens_per_s": row.rates.our_median,
        "llama_cpp_tokens_per_s": row.rates.their_median,
        "ratio": row.rates.ratio,
        "ratios_range": row.rates.ratio_range,
        "target_ratio": row.case.target_ratio,
        "is_reached": row.is_reached,
        "lepton_kl": row.our_divergence and row.our_divergence.kl_divergence,
        "llama_cpp_kl": row.their_divergence and row.their_divergence.kl_divergence,
    }
