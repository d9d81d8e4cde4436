from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripts.check_schemas import main
from tests.engine.tiny_gguf import tiny_gguf


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("LEPTON_HOME", str(tmp_path / "home"))
    model = tiny_gguf(tmp_path / "tiny.gguf")

    def check(schemas: dict[str, object]) -> tuple[int, dict[str, object]]:
        folder = tmp_path / "schemas"
        folder.mkdir()
        for name, content in schemas.items():
            (folder / f"{name}.json").write_text(json.dumps(content))
        counts = tmp_path / "counts.json"
        status = main([str(folder), "--walks", "20", "--model", str(model), "--json", str(counts)])
        return status, json.loads(counts.read_text())

    return check


def test_what_is_obeyed_and_what_is_refused(run: object) -> None:
    assert callable(run)
    tests = [
        {"data": {"a": 1}, "valid": True},
        {"data": {"a": "x"}, "valid": False},
        {"data": {"a": 1, "b": 2}, "valid": True},
        {"data": {"b": 2, "a": 1}, "valid": True},
    ]
    objects = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
    status, counts = run(
        {
            "bare": {"enum": [1, "x", None]},
            "tested": {"schema": objects | {"additionalProperties": False}, "tests": tests},
            "refused": {"type": "array", "uniqueItems": True},
        }
    )
    assert status == 0 and counts["violations"] == []
    assert (counts["num_schemas"], counts["num_obeyed"], counts["num_walks"]) == (3, 2, 40)
    assert (counts["num_allowed"], counts["num_too_strict"]) == (2, 1)
    assert counts["refused"] == {'Unimplemented keys: ["uniqueItems"]': 1}


def test_an_invalid_instance_that_is_allowed_is_told(run: object) -> None:
    assert callable(run)
    status, counts = run({"wrong": {"schema": {"type": "integer"}, "tests": [{"data": 5, "valid": False}]}})
    assert status == 1 and counts["violations"] == ["wrong: allows '5'"] and counts["num_obeyed"] == 0
