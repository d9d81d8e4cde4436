"""Metrics as a scraper sees them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(url: str, headers: Mapping[str, str] | None = None) -> Samples:
    """Every sample by its name and labels."""
    answer = httpx.get(f"{url}/metrics", headers=dict(headers or {}), timeout=30)
    assert answer.status_code == 200, answer.text
    return samples_of(answer.text)


def samples_of(text: str) -> Samples:
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, "a sample is there twice"
            found[key] = sample.value
    return found


class Change:
    """What has been added to counters between two scrapes; a sample that is new counts from 0."""

    def __init__(self, before: Samples, after: Samples) -> None:
        self._before = before
        self._after = after

    def __call__(self, name: str, *, model: str | None = "tiny", **labels: str) -> float:
        wanted = dict(labels) if model is None else {"model_name": model, "engine": "0", **labels}
        key = name, frozenset(wanted.items())
        return self._after.get(key, 0.0) - self._before.get(key, 0.0)


def value(samples: Samples, name: str, **labels: str) -> float:
    """That of a sample that has these labels and perhaps others; there is one."""
    (found,) = [v for (n, has), v in samples.items() if n == name and labels.items() <= dict(has).items()]
    return found


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
