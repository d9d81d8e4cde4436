from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from bench.figures import Figure, add_output_options, report


def run(path: Path, *figures: Figure) -> int:
    parser = argparse.ArgumentParser()
    add_output_options(parser)
    return report(figures, parser.parse_args(["--json", str(path)]))


def test_a_limit_that_does_not_hold_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = Figure("small", 1.0, 1.0, "s"), Figure("large", 1.01, 1.0, "s")
    assert run(tmp_path / "good", good) == 0
    assert "exceeded" not in capsys.readouterr().out
    assert run(tmp_path / "bad", good, bad) == 1
    assert capsys.readouterr().out.count("exceeded") == 1
    assert [figure["name"] for figure in json.loads((tmp_path / "bad").read_text())] == ["small", "large"]
