from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.cli.conftest import Lepton
from tests.loadgen.fake_server import Asked, FakeServer, Reply, answer_all, serving

from lepton_ai.cli.measuring import MeasuringBar, MeasuringLines, measuring
from lepton_ai.cli.svg import round_step
from lepton_ai.cli.verbs import VERBS, join_verb

SVG = "{http://www.w3.org/2000/svg}"
KEY = "sk-secret-0123456789abcdef0123456789abcdef"
SHORT = ("--prompt-tokens", "5", "--output-tokens", "3")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving(FakeServer()) as running:
        yield running


def rows(value: dict[str, object]) -> list[dict[str, Any]]:
    found = value["rows"]
    assert isinstance(found, list)
    return found


def test_clients(lepton: Lepton, server: FakeServer) -> None:
    result = lepton(
        "bench", "serve", server.url, "--clients", "1,4", "--requests", "8", "--seed", "5", *SHORT, "--json"
    )
    value = result.json()
    assert result.status == 0 and result.err.splitlines() == ["measuring 1 client", "measuring 4 clients"]
    assert (value["url"], value["model"], value["server_version"]) == (server.url, "fake", "9.8.7")
    assert value["settings"] == {
        "prompts": "ids",
        "prompt_tokens": "5",
        "shared_prefix_tokens": 0,
        "output_tokens": "3",
        "ignore_eos": True,
        "seed": 5,
        "num_warmup": 1,
        "timeout_s": 600.0,
        "objectives": None,
    }
    assert isinstance(value["client"], dict) and {"processor", "num_cores", "lepton", "python"} <= set(value["client"])
    assert [(row["clients"], row["rate_per_s"], row["num_answered"]) for row in rows(value)] == [
        (1, None, 8),
        (4, None, 8),
    ]
    for row in rows(value):
        assert (row["output_tokens"], row["prompt_tokens"], row["failures"]) == (24, 40, {})
        for name in ("first_token_s", "between_tokens_s", "per_output_token_s", "latency_s"):
            assert 0 <= row[name]["p50"] <= row[name]["p90"] <= row[name]["p99"]
    assert len(server.generations) == 1 + 8 + 8


def test_rates(lepton: Lepton, server: FakeServer) -> None:
    options = ("--rate", "100,200.5", "--requests", "5", "--warmup", "2", "--slo", "ttft=60s", *SHORT, "--json")
    value = lepton("bench", "serve", server.url, *options).json()
    assert [(row["clients"], row["rate_per_s"], row["num_answered"]) for row in rows(value)] == [
        (None, 100.0, 5),
        (None, 200.5, 5),
    ]
    assert rows(value)[0]["goodput"]["share"] == 1.0 and len(server.generations) == 2 + 10
    again = lepton("bench", "serve", server.url, *options).json()
    assert again["settings"] != value["settings"]  # another seed: no prompt is known yet


def test_a_duration_and_defaults(lepton: Lepton, server: FakeServer) -> None:
    (row,) = rows(lepton("bench", "serve", server.url, "--duration", "0.2", "--json").json())
    assert row["clients"] == 1 and row["elapsed_s"] >= 0.2
    asked = server.generations[0].body
    assert len(asked["prompt"]) == 128 and asked["max_tokens"] == 64
    (row,) = rows(lepton("bench", "serve", server.url, "--clients", "5", *SHORT, "--json").json())
    assert row["num_requests"] == 20


def test_for_people(lepton: Lepton, server: FakeServer) -> None:
    result = lepton("bench", "serve", server.url, "--clients", "2", "--requests", "4", "--slo", "ttft=60s", *SHORT)
    lines = result.out.splitlines()
    assert lines[:3] == ["model                  fake", "version of the server  9.8.7", "prompts                ids"]
    (header,) = [line for line in lines if line.startswith("clients  answered")]
    assert "output tokens/s" in header and "kept" in header and "client cores" in header
    values = lines[lines.index(header) + 1].split()
    assert values[:4] == ["2", "4", "0", "0"] and "100" in values
    waits = [line for line in lines if re.match(r" +2  (to the|between|per|whole)", line)]
    assert len(waits) == 4 and all(len(re.findall(r"\d+\.\d", line)) == 4 for line in waits)
    assert "failed:" not in result.out


def test_failures_are_told(lepton: Lepton) -> None:
    async def some(asked: Asked, reply: Reply) -> None:
        number = len(fake.generations)
        if number == 3:
            reply.error(429, "rate_limited")
        elif number == 4:
            reply.error(503, "overloaded")
        else:
            await answer_all(asked, reply)

    with serving(FakeServer(some)) as fake:
        result = lepton("bench", "serve", fake.url, "--requests", "4", *SHORT)
    assert result.status == 0 and "clients 1: 1 failed: HTTP 503 overloaded" in result.out.splitlines()
    (line,) = [line for line in result.out.splitlines() if re.match(r" +1 +\d+ +\d+ +\d+ ", line)]
    assert line.split()[:4] == ["1", "2", "1", "1"]


def test_a_row_without_an_answer_is_a_failure(lepton: Lepton, tmp_path: Path) -> None:
    async def once(asked: Asked, reply: Reply) -> None:
        if len(fake.generations) == 1:
            await answer_all(asked, reply)
        else:
            reply.error(503, "overloaded")

    path = tmp_path / "a.svg"
    with serving(FakeServer(once)) as fake:
        result = lepton("bench", "serve", fake.url, "--requests", "2", "--plot", str(path), "--json")
    assert result.status == 1 and rows(result.json())[0]["first_token_s"] is None
    assert ElementTree.parse(path).getroot().tag == f"{SVG}svg"


def test_a_plot(lepton: Lepton, server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "load.svg"
    options = ("--clients", "1,2,4", "--requests", "4", "--plot", str(path), *SHORT, "--json")
    value = lepton("bench", "serve", server.url, *options).json()
    root = ElementTree.parse(path).getroot()
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts[0] == "fake under load, server 9.8.7" and texts.count("clients") == 4
    for title in ("tokens a second", "to the first token, ms", "between tokens, ms", "whole answer, ms"):
        assert title in texts
    points = [title.text or "" for title in root.iter(f"{SVG}title")]
    known = rows(value)[2]
    assert f"4: output {known['output_tokens_per_s']:.4g}" in points
    assert f"4: p99 {1e3 * known['latency_s']['p99']:.4g} ms" in points
    assert len([p for p in root.iter(f"{SVG}path") if str(p.get("class")).startswith("line")]) == 2 + 3 * 3
    for mark in root.iter(f"{SVG}rect"):
        x, y = float(mark.get("x", "nan")), float(mark.get("y", "nan"))
        assert 0 <= x <= 800 and 0 <= y <= 470


@pytest.mark.parametrize("least", [0.0, 1e-6, 0.3, 1.0, 1.01, 2.0, 4.9, 7.3, 10.0, 512.0])
def test_marks_of_an_axis(least: float) -> None:
    step = round_step(least)
    assert step >= least * (1 - 1e-9) and (least == 0 or step <= 2.5 * least)
    assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6) in (1, 2, 5, 10)


def test_a_file_of_prompts(lepton: Lepton, server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("Why is the sky blue?\nWho are you?\n", encoding="utf-8")
    value = lepton("bench", "serve", server.url, "--prompts", str(path), "--requests", "4", "--json").json()
    settings = value["settings"]
    assert isinstance(settings, dict)
    assert (settings["prompts"], settings["num_prompts"], settings["ignore_eos"]) == ("a file's", 2, False)
    assert {asked.path for asked in server.generations} == {"/v1/chat/completions"}
    assert server.generations[0].body["max_tokens"] == 64


def test_the_key_is_sent_and_never_printed(lepton: Lepton, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_API_KEY", KEY)
    results = [lepton("bench", "serve", server.url, "--requests", "1", *SHORT, *more) for more in ((), ("--json",))]
    assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {KEY}"}
    server.statuses = {"/v1/completions": 401}
    results.append(lepton("bench", "serve", server.url, *SHORT, "--debug"))
    assert [result.status for result in results] == [0, 0, 1] and "LEPTON_API_KEY" in results[2].err
    assert all(KEY not in result.out + result.err for result in results)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--clients 1 --rate 2", "--rate: expected none with --clients"),
        ("--requests 1 --duration 2", "--duration: expected none with --requests"),
        ("--clients 1,x", "--clients: expected numbers such as 1,4,16, each once, got '1,x'"),
        ("--clients 0", "--clients: expected numbers"),
        ("--clients 4,4", "--clients: expected numbers"),
        ("--rate 1e3", "--rate: expected numbers such as 0.5,1,2"),
        ("--rate 0", "--rate: expected numbers"),
        ("--prompt-tokens 9:2", "--prompt-tokens: expected a number of tokens"),
        ("--output-tokens x", "--output-tokens: expected a number of tokens"),
        ("--shared-prefix-tokens 128", "--shared-prefix-tokens: expected fewer than the 128"),
        ("--prompts absent.txt", "--prompts: expected a file of texts"),
        ("--prompts absent.txt --chat", "--chat: expected none with --prompts"),
        ("--prompts absent.txt --prompt-tokens 3", "--prompt-tokens: expected none with --prompts"),
        ("--slo fast", "--slo: expected such as ttft=500ms"),
        ("--plot a.png", "--plot: expected a file called *.svg, got 'a.png'"),
        ("--plot absent/a.svg", "--plot: there is no folder absent"),
        ("--warmup 0", "--warmup"),
    ],
)
def test_wrong_options(lepton: Lepton, options: str, message: str) -> None:
    result = lepton("bench", "serve", "http://127.0.0.1:9", *options.split())
    assert result.status == 2 and message in result.err


def test_wrong_urls(lepton: Lepton) -> None:
    result = lepton("bench", "serve", "127.0.0.1:8000")
    assert result.status == 2 and "url: expected" in result.err
    result = lepton("bench", "serve", "http://127.0.0.1:9", *SHORT)
    assert result.status == 1 and "http://127.0.0.1:9: " in result.err and "[cannot_connect]" in result.err


def test_a_plot_that_cannot_be_written(lepton: Lepton, server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "taken.svg").mkdir()
    result = lepton("bench", "serve", server.url, "--requests", "1", *SHORT, "--plot", str(tmp_path / "taken.svg"))
    assert result.status == 1 and "--plot: cannot write" in result.err and "[storage_error]" in result.err


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(measuring(counts=True), MeasuringLines)
    monkeypatch.setenv("FORCE_COLOR", "1")
    bar = measuring(counts=True)
    assert isinstance(bar, MeasuringBar)
    bar.start("4 clients", 10)
    bar.update(5)
    bar.finish()
    bar.finish()
    assert "4 clients" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "joined"),
    [
        ("bench serve URL --json", ("bench serve", "URL", "--json")),
        ("bench --json serve URL", ("bench", "--json", "serve", "URL")),
        ("bench smollm2 serve", ("bench", "smollm2", "serve")),
        ("--version bench serve", ("--version", "bench serve")),
        ("serve bench", ("serve", "bench")),
        ("bench", ("bench",)),
        ("", ()),
    ],
)
def test_verbs_of_two_words(argv: str, joined: tuple[str, ...]) -> None:
    assert join_verb(argv.split(), VERBS) == joined
    assert join_verb(joined, VERBS) == joined


def test_a_model_is_still_measured(lepton: Lepton) -> None:
    result = lepton("bench", "./serve")
    assert result.status == 1 and "[model_not_found]" in result.err
    assert "lepton bench serve http" in lepton("bench", "serve", "--help").out
    assert "lepton bench smollm2" in lepton("bench", "--help").out
