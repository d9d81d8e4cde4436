from __future__ import annotations

from pathlib import Path

import pytest
from bench.peers.forms import ConversionFailed
from tests.engine.tiny_gguf import tiny_gguf

from bench.peers import forms

CONVERTER = """#!/bin/sh
echo "$*" >> "{log}"
cat "$3/config.json" > "$4/form"
echo "what went wrong"
exit {status}
"""


class Environments:
    """Stands for bench.peers.environments: its interpreter notes its arguments and copies the config."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.status = 0
        self.requirements = "peer==1"

    def ensure(self, name: str) -> Path:
        path = self.folder / f"python-{self.status}"
        path.write_text(CONVERTER.format(log=self.folder / "log", status=self.status))
        path.chmod(0o700)
        return path

    def describe(self, name: str) -> str:
        return f"{name} {self.requirements}"

    def calls(self) -> list[list[str]]:
        log = self.folder / "log"
        return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environments:
    made = Environments(tmp_path)
    monkeypatch.setattr(forms, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(forms, "environments", made)
    monkeypatch.setenv("LEPTON_HOME", str(tmp_path / "home"))
    return made


def test_a_form_is_made_once_of_a_model(environments: Environments, tmp_path: Path) -> None:
    model = tiny_gguf(tmp_path / "tiny.gguf")
    first = forms.ctranslate2(model)
    assert (first / "form").read_text() == (forms.hf_folder(model) / "config.json").read_text()
    assert forms.ctranslate2(model) == first
    ((dash_m, module, source, _),) = environments.calls()
    assert (dash_m, module, source) == ("-m", "bench.peers.converters.ctranslate2", str(forms.hf_folder(model)))


def test_a_form_is_made_anew_for_other_weights_or_another_engine(environments: Environments, tmp_path: Path) -> None:
    model = tiny_gguf(tmp_path / "tiny.gguf")
    other = tiny_gguf(tmp_path / "other.gguf", seed=1)
    made = {forms.openvino(model), forms.openvino(other), forms.onnxruntime(model)}
    environments.requirements = "peer==2"
    made.add(forms.openvino(model))
    assert len(made) == len(environments.calls()) == 4
    assert forms.hf_folder(model) != forms.hf_folder(other)


def test_an_encoders_folder_is_converted_as_it_is(environments: Environments, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"1")
    first = forms.ctranslate2(folder)
    assert environments.calls()[0][2] == str(folder)
    (folder / "model.safetensors").write_bytes(b"2")
    assert forms.ctranslate2(folder) != first


def test_a_failed_conversion_says_why_and_leaves_nothing(environments: Environments, tmp_path: Path) -> None:
    model = tiny_gguf(tmp_path / "tiny.gguf")
    environments.status = 3
    with pytest.raises(ConversionFailed, match="ended with status 3:\nwhat went wrong"):
        forms.onnxruntime(model)
    assert list((tmp_path / "cache").iterdir()) == [forms.hf_folder(model)]
