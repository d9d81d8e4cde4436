from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.weights.sources.fake_index import make_model

from lepton_ai.errors import ModelNotFound
from lepton_ai.weights.sources.library import Library

DATA = b"the bytes of a model"


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "home")


def _add(library: Library, name: str = "tiny") -> Path:
    model, _ = make_model(name, [DATA])
    staged = library.downloads(name) / "complete"
    staged.mkdir(parents=True, exist_ok=True)
    (staged / "model.gguf").write_bytes(DATA)
    return library.add(name, staged, model.manifest)


def test_a_model_is_added_and_found(library: Library) -> None:
    path = _add(library)
    found = library.find("tiny")
    assert found is not None and found.path == path and path.read_bytes() == DATA
    assert (found.size_bytes, found.licence) == (len(DATA), "CC0-1.0")
    manifest = json.loads((path.parent / "manifest.json").read_text())
    assert manifest["origin"]["parts"][0]["package"] == "tiny-part1"


def test_an_empty_library(library: Library) -> None:
    assert library.installed() == []
    assert library.find("tiny") is None
    assert not library.has_files("tiny")


@pytest.mark.parametrize(
    "manifest", [None, "", "[]", "{}", '{"version": 2, "size_bytes": 20, "sha256": "", "licence": ""}']
)
def test_a_model_without_its_manifest_is_not_there(library: Library, manifest: str | None) -> None:
    path = _add(library).parent / "manifest.json"
    if manifest is None:
        path.unlink()
    else:
        path.write_text(manifest)
    assert library.find("tiny") is None
    assert library.installed() == []


def test_a_truncated_model_is_not_there_and_is_replaced(library: Library) -> None:
    _add(library).write_bytes(DATA[:5])
    assert library.find("tiny") is None
    _add(library)
    assert library.find("tiny") is not None


def test_all_models_by_name(library: Library) -> None:
    _add(library, "zeta")
    _add(library, "alpha")
    assert [model.name for model in library.installed()] == ["alpha", "zeta"]


def test_remove_takes_model_and_transfers(library: Library) -> None:
    path = _add(library)
    library.downloads("tiny").mkdir(exist_ok=True)
    (library.downloads("tiny") / "x.whl.part").write_bytes(bytes(1000))
    assert library.remove("tiny") > 1000 + len(DATA)
    assert not path.parent.exists() and not library.downloads("tiny").exists()


@pytest.mark.parametrize("name", ["other", "../home", "..", "", "/etc", "tiny/model.gguf"])
def test_remove_deletes_nothing_else(library: Library, name: str) -> None:
    path = _add(library)
    with pytest.raises(ModelNotFound, match="not on this machine"):
        library.remove(name)
    assert path.exists()
