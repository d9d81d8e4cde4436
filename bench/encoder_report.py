"""The table of encoders: on a terminal, in Markdown, in JSON."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from bench.pairs import PairedRates
from bench.report import markdown_table, ratio_cell
from bench.serving import EngineInfo

COLUMNS = (
    "texts x tokens",
    "Lepton seq/s",
    "least cosine",
    "peer",
    "peer seq/s",
    "least cosine",
    "ratio",
)


@dataclass(frozen=True, slots=True)
class MeasuredEngine:
    """An engine, and the least cosine of its vectors with those in f32."""

    info: EngineInfo
    least_cosine: float


@dataclass(frozen=True, slots=True)
class EncoderRow:
    """One case beside one peer, in sequences a second."""

    case: str
    peer: MeasuredEngine
    rates: PairedRates


@dataclass(frozen=True, slots=True)
class EncoderReport:
    """A whole run. ``reference`` names the engine whose vectors are the f32 ones."""

    ours: MeasuredEngine
    num_pairs: int
    num_sentences: int
    reference: str
    rows: tuple[EncoderRow, ...]


def cells(report: EncoderReport, row: EncoderRow) -> tuple[str, ...]:
    """A row as text, in the order of COLUMNS."""
    return (
        row.case,
        f"{row.rates.our_median:.0f}",
        f"{report.ours.least_cosine:.4f}",
        row.peer.info.name,
        f"{row.rates.their_median:.0f}",
        f"{row.peer.least_cosine:.4f}",
        ratio_cell(row.rates),
    )


def print_table(report: EncoderReport, console: Console) -> None:
    """The table with a head that says what ran."""
    table = Table(title=_title(report), caption=_caption(report))
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("texts x tokens", "peer") else "right")
    for row in report.rows:
        table.add_row(*cells(report, row))
    console.print(table)


def to_markdown(report: EncoderReport) -> str:
    """The table for docs/benchmarks.md."""
    return markdown_table(_title(report), COLUMNS, [cells(report, row) for row in report.rows], _caption(report))


def to_json(report: EncoderReport) -> dict[str, object]:
    """All figures."""
    return {
        "lepton": _engine(report.ours),
        "num_pairs": report.num_pairs,
        "num_sentences": report.num_sentences,
        "reference": report.reference,
        "rows": [
            {
                "case": row.case,
                "peer": _engine(row.peer),
                "lepton_sequences_per_s": row.rates.our_median,
                "peer_sequences_per_s": row.rates.their_median,
                "ratio": row.rates.ratio,
                "ratios_range": row.rates.ratio_range,
            }
            for row in report.rows
        ],
    }


def _engine(engine: MeasuredEngine) -> dict[str, object]:
    info = engine.info
    return {
        "name": info.name,
        "version": info.version,
        "isa": info.isa,
        "num_threads": info.num_threads,
        "least_cosine": engine.least_cosine,
    }


def _title(report: EncoderReport) -> str:
    info = report.ours.info
    versions = dict.fromkeys(row.peer.info.version for row in report.rows)
    threads = f"{info.num_threads} thread{'s' if info.num_threads > 1 else ''} each"
    return f"{', '.join((f'{info.name} {info.isa}', *versions))}; {threads}, {report.num_pairs} interleaved pairs"


def _caption(report: EncoderReport) -> str:
    return (
        "seq/s: medians over pairs; ratio: median of the pairs' ratios (least-greatest). "
        f"Cosines: with the vectors of {report.reference}, over {report.num_sentences} sentences."
    )
