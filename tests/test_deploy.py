"""The dashboard and the alerts ask for what the server has; the page of metrics has a line for each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.process_collector import ProcessCollector

from lepton_ai.serve.metrics.catalog import METRICS
from lepton_ai.serve.metrics.families import MetricType

ROOT = Path(__file__).resolve().parent.parent
DASHBOARD = ROOT / "deploy" / "grafana" / "lepton.json"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
PAGE = ROOT / "docs" / "monitoring.md"

SUFFIXES = {"gauge": ("",), "counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
# What may stand in an expression beside metrics and labels: those who write others add them here.
FUNCTIONS = {"histogram_quantile", "rate", "increase", "sum", "min", "max", "avg_over_time", "max_over_time"}
KEYWORDS = {"by", "on", "and", "group_left"}
ADDED_BY_PROMETHEUS = {"job", "instance", "le"}


def exposed() -> dict[str, set[str]]:
    """The labels of every sample that there can be, by its name."""
    found = {"up": set[str]()}
    for metric in METRICS:
        for suffix in SUFFIXES[metric.kind]:
            found[metric.name + suffix] = set(metric.labels)
    for namespace in ("", "lepton:engine"):
        for family in ProcessCollector(namespace, registry=CollectorRegistry()).collect():
            found |= {sample.name: set() for sample in family.samples}
    return found


def dashboard() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return made


def rules() -> list[dict[str, Any]]:
    content = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    return [rule for group in content["groups"] for rule in group["rules"]]


def panel_expressions() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def names_in(expression: str) -> tuple[set[str], set[str]]:
    """Metrics and labels that an expression names. What it means is not looked at."""
    braces = re.findall(r"\{([^}]*)\}", expression)
    lists = re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", expression)
    labels = {name for text in braces for name in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', text)}
    labels |= {name.strip() for text in lists for name in text.split(",")}
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|group_left) \([^)]*\)", " ", expression)
    called = set(re.findall(r"([a-z_]+)\s*\(", bare))
    words = set(re.findall(r"[A-Za-z_][\w:]*", bare))
    assert called - KEYWORDS <= FUNCTIONS, expression
    return words - FUNCTIONS - KEYWORDS, labels


@pytest.mark.parametrize("expression", sorted({*panel_expressions(), *(rule["expr"] for rule in rules())}))
def test_an_expression_names_what_there_is(expression: str) -> None:
    known = exposed()
    metrics, labels = names_in(expression)
    assert metrics and metrics <= known.keys()
    assert labels <= set().union(*(known[metric] for metric in metrics)) | ADDED_BY_PROMETHEUS
    assert expression.count("(") == expression.count(")") and expression.count("{") == expression.count("}")


def test_an_expression_that_names_what_there_is_not() -> None:
    metrics, labels = names_in('sum by (nobody) (rate(vllm:no_such_total{model="x"}[5m])) / up')
    assert metrics == {"vllm:no_such_total", "up"} and labels == {"nobody", "model"}


def test_all_metrics_are_drawn() -> None:
    drawn = set().union(*(names_in(expression)[0] for expression in panel_expressions()))
    missing = [m.name for m in METRICS if not drawn & {m.name + suffix for suffix in SUFFIXES[m.kind]}]
    assert missing == []


def test_the_dashboard_can_be_imported() -> None:
    content = dashboard()
    assert content["id"] is None and [i["name"] for i in content["__inputs"]] == ["DS_PROMETHEUS"]
    variables = {v["name"]: v for v in content["templating"]["list"]}
    assert variables["datasource"]["current"]["value"] == "${DS_PROMETHEUS}"
    for variable in ("model", "instance"):
        ((metric, label),) = re.findall(r"label_values\(([\w:]+).*, (\w+)\)", variables[variable]["query"]["query"])
        assert metric in exposed() and label in exposed()[metric] | ADDED_BY_PROMETHEUS
    panels = content["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {panel["datasource"]["uid"] for panel in panels if panel["type"] != "row"} == {"${datasource}"}
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not taken & cells and place["x"] + place["w"] <= 24, "panels overlap"
        taken |= cells


def test_alerts_are_complete() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names) >= 6
    for rule in rules():
        assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning") and re.fullmatch(r"\d+m", rule["for"])
        assert rule["annotations"].keys() == {"summary", "description"}
        _, labels = names_in(rule["expr"])
        used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        assert "by (" not in rule["expr"] or used <= labels, "a label that the sum has dropped"


def test_the_configuration_of_prometheus() -> None:
    content = yaml.safe_load((ALERTS.parent / "prometheus.yml").read_text(encoding="utf-8"))
    assert content["rule_files"] == [ALERTS.name]
    (job,) = content["scrape_configs"]
    assert f'up{{job="{job["job_name"]}"}}' in ALERTS.read_text(encoding="utf-8")


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_has_its_line(metric: MetricType) -> None:
    name = metric.name + ("_total" if metric.kind == "counter" else "")
    (line,) = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}` |")]
    _, _, kind, labels, meaning, _ = map(str.strip, line.split("|"))
    more = [f"`{label}`" for label in metric.labels if label not in ("model_name", "engine")]
    assert kind == metric.kind and labels == ", ".join(more) and len(meaning) > 10


def test_no_line_is_of_a_metric_that_is_not_there() -> None:
    lines = re.findall(r"^\| `((?:vllm|lepton|process)[\w:]*)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    known = exposed() | {metric.name: set() for metric in METRICS}
    assert lines and [name for name in lines if name not in known] == []
