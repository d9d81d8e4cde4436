"""Processes are measured from their start to their end."""

from __future__ import annotations

import ast
import resource
import sys
from pathlib import Path

import pytest
from bench.peers.first_token import Row, Start, StartFailed, figures, measure, rendered, run_once, sample_memory
from tests.engine.tiny_gguf import tiny_gguf

from bench.peers import first_token

MEGABYTE = 1_000_000


def larger_than_this(engine: str, then: str) -> Start:
    """A process that takes 50 MB more than this one ever did, and then does something."""
    num_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + 50 * MEGABYTE
    return Start(engine, (sys.executable, "-c", f"import sys, time; kept = b'x' * {num_bytes}; {then}"))


def test_a_process() -> None:
    begun = larger_than_this("a", "print('token', flush=True); time.sleep(0.2)")
    least = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + 50 * MEGABYTE
    done = run_once(begun)
    assert 0 < done.first_s <= done.seconds - 0.2
    assert least < done.rss_bytes < least + 100 * MEGABYTE
    assert sample_memory(begun) == pytest.approx(done.rss_bytes, rel=0.2)


@pytest.mark.parametrize(
    ("code", "reason"),
    [("sys.exit('no model')", "status 1: no model"), ("pass", "status 0: "), ("print()", "status 0")],
)
def test_a_process_without_a_token_has_failed(code: str, reason: str) -> None:
    with pytest.raises(StartFailed, match=reason):
        run_once(larger_than_this("a", code))


def test_a_process_that_does_not_end_has_failed() -> None:
    with pytest.raises(StartFailed, match=r"gave no answer within 0\.5 s: "):
        run_once(
            Start("a", (sys.executable, "-c", "import time; print('token', flush=True); time.sleep(600)")),
            timeout_s=0.5,
        )


def test_a_process_that_is_smaller_than_this_one_cannot_be_measured() -> None:
    kept = bytearray(200 * MEGABYTE)
    with pytest.raises(RuntimeError, match="is not above that of this process"):
        run_once(Start("a", (sys.executable, "-c", "print('token')")))
    assert len(kept) == 200 * MEGABYTE


def test_engines_take_turns_and_a_failure_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run(start: Start) -> first_token.Round:
        ran.append(start.engine)
        if start.engine == "b":
            raise StartFailed("status 1: no")
        return first_token.Round(first_s=len(ran) / 10, seconds=float(len(ran)), rss_bytes=7)

    monkeypatch.setattr(first_token, "run_once", run)
    monkeypatch.setattr(first_token, "sample_memory", lambda start: 5)
    rows = measure([Start(name, ()) for name in "abc"], num_rounds=3)
    assert ran == ["a", "b", "c", "a", "c", "a", "c", "a", "c"]
    assert rows[0] == Row("a", seconds=6.0, spread=(4.0, 8.0), first_s=0.6, rss_bytes=7, pss_bytes=5)
    assert rows[1] == Row("b", failure="status 1: no")


def test_figures() -> None:
    own = Row("Lepton", seconds=0.5, rss_bytes=150 * MEGABYTE)
    others = [Row("b", seconds=0.4, rss_bytes=200 * MEGABYTE), Row("c", failure="no")]
    held = figures([own, *others], "smollm2")
    assert [(each.value, each.limit, each.is_within) for each in held] == [
        (0.5, 0.55, True),
        (0.5, 0.4, False),
        (150.0, 200.0, True),
    ]
    assert figures([own], "another") == []


def test_the_prompt_is_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_HOME", str(tmp_path / "home"))
    text, ids = rendered(str(tiny_gguf(tmp_path / "tiny.gguf")))
    assert "hi" in text and ids


def test_scripts_are_what_their_interpreters_parse() -> None:
    scripts = sorted(first_token._SCRIPTS.glob("*.py"))
    assert len(scripts) == 6
    for script in scripts:
        tree = ast.parse(script.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree)
