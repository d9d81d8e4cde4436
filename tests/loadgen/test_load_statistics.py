from __future__ import annotations

from array import array
from typing import Any

import pytest

from lepton_ai.errors import InvalidRequest
from lepton_ai.loadgen.answer import Outcome
from lepton_ai.loadgen.failures import Disconnected, Refused, RequestFailed, TimedOut
from lepton_ai.loadgen.objectives import Objectives
from lepton_ai.loadgen.run import Load, Measurement
from lepton_ai.loadgen.statistics import Goodput, Report, Spread, report


def answered(at: float, first: float, each: float, tokens: int, **more: Any) -> Outcome:
    """An answer to a request of time ``at``: the first token after ``first``, then one every ``each`` seconds."""
    finish = at + first + each * (tokens - 1)
    return Outcome(
        more.pop("max_tokens", tokens),
        intended_s=at,
        sent_s=at + 0.25,
        first_text_s=at + first,
        finish_s=finish,
        end_s=finish + 0.5,
        gaps_s=array("d", [each] * (tokens - 1)),
        prompt_tokens=10,
        output_tokens=tokens,
        **more,
    )


def failed(error: RequestFailed) -> Outcome:
    return Outcome(5, intended_s=1.0, sent_s=1.25, end_s=2.0, failure=error, output_tokens=99, first_text_s=1.5)


def measured(*outcomes: Outcome, elapsed_s: float = 10.0, slo: str | None = None) -> Report:
    measurement = Measurement(Load(clients=2, num_requests=len(outcomes)), outcomes, elapsed_s, cpu_s=0.5)
    return report(measurement, None if slo is None else Objectives.parse(slo))


def test_percentiles() -> None:
    spread = Spread.of([*(float(value) for value in range(101)), None])
    assert spread == Spread(101, 50.0, 50.0, 90.0, 99.0)
    assert Spread.of([1.0, 2.0]) == Spread(2, 1.5, 1.5, 1.9, 1.99)
    assert Spread.of([3.0]) == Spread(1, 3.0, 3.0, 3.0, 3.0)
    assert Spread.of([None]) is None and Spread.of([]) is None


def test_figures_of_whole_answers() -> None:
    made = measured(answered(0.0, 1.0, 0.5, 5), answered(2.0, 3.0, 0.25, 9, cached_tokens=4))
    assert (made.num_requests, made.num_answered, made.num_refused, made.failures) == (2, 2, 0, {})
    assert (made.requests_per_s, made.output_tokens_per_s, made.total_tokens_per_s) == (0.2, 1.4, 3.4)
    assert (made.prompt_tokens, made.cached_tokens, made.output_tokens) == (20, 4, 14)
    assert made.first_token is not None and made.first_token.mean == 2.0
    assert made.per_output_token is not None and made.per_output_token.mean == pytest.approx(0.375)
    assert made.between_tokens is not None and made.between_tokens.count == 12
    assert made.between_tokens.mean == pytest.approx((4 * 0.5 + 8 * 0.25) / 12)
    assert made.latency is not None and made.latency.mean == (3.5 + 5.5) / 2
    assert made.send_delay is not None and made.send_delay.mean == 0.25
    assert made.client_cpu_s_per_token == pytest.approx(0.5 / 14) and made.client_cores == 0.05
    assert made.pieces_per_token == 1.0 and made.num_short == 0


def test_failures_count_by_kind_and_in_nothing_else() -> None:
    made = measured(
        answered(0.0, 1.0, 0.5, 5),
        failed(Refused(429, "rate_limited", "slow down")),
        failed(Refused(429, "", "")),
        failed(Refused(503, "overloaded", "full")),
        failed(TimedOut("late")),
        failed(TimedOut("later")),
        failed(Disconnected("gone", had_answer=True)),
        failed(Refused(200, "engine_died", "it died")),
    )
    assert (made.num_requests, made.num_answered, made.num_refused) == (8, 1, 2)
    assert made.failures == {
        "timed out": 2,
        "HTTP 503 overloaded": 1,
        "broke off": 1,
        "in a stream engine_died": 1,
    }
    assert made.output_tokens == 5 and made.requests_per_s == 0.1
    assert made.first_token is not None and made.first_token.count == 1
    assert made.send_delay is not None and made.send_delay.count == 8


def test_nothing_was_answered() -> None:
    made = measured(failed(TimedOut("late")))
    assert made.first_token is None and made.latency is None and made.client_cpu_s_per_token is None
    assert made.output_tokens_per_s == 0 and made.to_dict()["first_token_s"] is None


def test_answers_that_are_too_short() -> None:
    assert measured(answered(0.0, 1.0, 0.5, 5, max_tokens=6), answered(0.0, 1.0, 0.5, 6)).num_short == 1


def test_goodput() -> None:
    outcomes = [
        answered(0.0, 0.5, 0.05, 5),
        answered(0.0, 0.6, 0.05, 5),
        answered(0.0, 0.5, 0.06, 5),
        answered(0.0, 0.1, 9.0, 1),
        failed(TimedOut("late")),
    ]
    assert measured(*outcomes).goodput is None
    assert measured(*outcomes, slo="ttft=500ms, tpot=0.0500001s").goodput == Goodput(2, 0.4, 0.2)
    assert measured(*outcomes, slo="ttft=600ms").goodput == Goodput(4, 0.8, 0.4)
    assert measured(*outcomes, slo="latency=1.23s").goodput == Goodput(2, 0.4, 0.2)
    silent = answered(0.0, 0.1, 0.1, 1)
    silent.first_text_s = None
    assert measured(silent, slo="ttft=1s").goodput == Goodput(0, 0.0, 0.0)


@pytest.mark.parametrize("text", ["", "ttft", "ttft=5", "ttft=0ms", "p99=5s", "ttft=1s,ttft=2s", "tpot=-1s", "ttft=1m"])
def test_what_are_no_objectives(text: str) -> None:
    with pytest.raises(InvalidRequest, match="--slo: expected such as ttft=500ms"):
        Objectives.parse(text)


def test_json_has_all_figures_with_units() -> None:
    value = measured(answered(0.0, 1.0, 0.5, 5), slo="ttft=2s").to_dict()
    assert value["first_token_s"] == {"count": 1, "mean": 1.0, "p50": 1.0, "p90": 1.0, "p99": 1.0}
    assert value["goodput"] == {"num_met": 1, "share": 1.0, "requests_per_s": 0.1}
    assert {"between_tokens_s", "per_output_token_s", "latency_s", "send_delay_s", "clients", "failures"} <= set(value)
