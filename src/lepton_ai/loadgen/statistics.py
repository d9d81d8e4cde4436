"""What a load amounts to: rates, and how long people waited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

from lepton_ai.loadgen.answer import Outcome
from lepton_ai.loadgen.failures import Refused, RequestFailed
from lepton_ai.loadgen.objectives import Objectives
from lepton_ai.loadgen.run import Measurement

_TOO_MANY = 429


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds of ``count`` observations. Between two of them a percentile is interpolated, as NumPy does."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """Of the values that are not None; None if there is none."""
        known = np.array([value for value in values if value is not None], np.float64)
        if not known.size:
            return None
        p50, p90, p99 = np.percentile(known, (50, 90, 99)).tolist()
        return cls(known.size, float(known.mean()), p50, p90, p99)


@dataclass(frozen=True, slots=True)
class Goodput:
    """Requests that met every objective, their share of all that were sent, and their rate."""

    num_met: int
    share: float
    requests_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One load in figures. Rates, tokens and waits are those of whole answers; ``failures`` counts the others by kind,
    but for ``num_refused``, which were told that there are too many (429).

    ``num_short`` answers have fewer tokens than were asked for. ``pieces_per_token`` below 1 tells that the server
    joins tokens, or that some have no text. ``send_delay`` is how late the client itself was. ``client_cores`` is the
    client's mean share of the machine, in cores.
    """

    clients: int | None
    rate_per_s: float | None
    num_requests: int
    num_answered: int
    num_refused: int
    failures: Mapping[str, int]
    elapsed_s: float
    requests_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    num_short: int
    pieces_per_token: float | None
    first_token: Spread | None
    between_tokens: Spread | None
    per_output_token: Spread | None
    latency: Spread | None
    send_delay: Spread | None
    goodput: Goodput | None
    client_cpu_s: float
    client_cpu_s_per_token: float | None
    client_cores: float

    def to_dict(self) -> dict[str, object]:
        """As ``--json`` prints it; spreads have their unit in the name."""
        spreads = {"first_token", "between_tokens", "per_output_token", "latency", "send_delay"}
        values = asdict(self)
        return {f"{f.name}_s" if f.name in spreads else f.name: values[f.name] for f in fields(self)}


def report(measurement: Measurement, objectives: Objectives | None) -> Report:
    """The figures of a load."""
    outcomes, elapsed_s = measurement.outcomes, max(measurement.elapsed_s, 1e-9)
    answered = [outcome for outcome in outcomes if outcome.failure is None]
    failed = [outcome.failure for outcome in outcomes if outcome.failure is not None]
    num_refused = sum(map(_is_too_many, failed))
    prompt_tokens, output_tokens = (
        sum(outcome.prompt_tokens for outcome in answered),
        sum(outcome.output_tokens for outcome in answered),
    )
    num_pieces = sum(outcome.num_pieces for outcome in answered)
    return Report(
        clients=measurement.load.clients,
        rate_per_s=measurement.load.rate_per_s,
        num_requests=len(outcomes),
        num_answered=len(answered),
        num_refused=num_refused,
        failures=dict(Counter(error.kind for error in failed if not _is_too_many(error)).most_common()),
        elapsed_s=elapsed_s,
        requests_per_s=len(answered) / elapsed_s,
        output_tokens_per_s=output_tokens / elapsed_s,
        total_tokens_per_s=(prompt_tokens + output_tokens) / elapsed_s,
        prompt_tokens=prompt_tokens,
        cached_tokens=sum(outcome.cached_tokens for outcome in answered),
        output_tokens=output_tokens,
        num_short=sum(outcome.output_tokens < outcome.max_tokens for outcome in answered),
        pieces_per_token=num_pieces / output_tokens if output_tokens else None,
        first_token=Spread.of(outcome.first_token_s for outcome in answered),
        between_tokens=Spread.of(gap for outcome in answered for gap in outcome.gaps_s),
        per_output_token=Spread.of(outcome.time_per_output_token_s for outcome in answered),
        latency=Spread.of(outcome.latency_s for outcome in answered),
        send_delay=Spread.of(outcome.sent_s - outcome.intended_s for outcome in outcomes),
        goodput=None if objectives is None else _goodput(answered, len(outcomes), elapsed_s, objectives),
        client_cpu_s=measurement.cpu_s,
        client_cpu_s_per_token=measurement.cpu_s / output_tokens if output_tokens else None,
        client_cores=measurement.cpu_s / elapsed_s,
    )


def _goodput(answered: Sequence[Outcome], num_requests: int, elapsed_s: float, objectives: Objectives) -> Goodput:
    num_met = sum(map(objectives.are_met, answered))
    return Goodput(num_met, num_met / max(num_requests, 1), num_met / elapsed_s)


def _is_too_many(error: RequestFailed) -> bool:
    return isinstance(error, Refused) and error.http_status == _TOO_MANY
