"""Checkpoints are told apart by content, and what is not one is refused by name."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest
from tests.weights.gguf_writer import write_gguf
from tests.weights.open_files import open_files

from lepton_ai.errors import InvalidModel, LeptonError, ModelNotFound, StorageError, UnsupportedModel
from lepton_ai.weights.checkpoint import open_checkpoint
from lepton_ai.weights.gguf import GGUFFile


def _refused(path: Path, kind: type[LeptonError], message: str) -> None:
    with pytest.raises(kind, match=message) as raised:
        open_checkpoint(path)
    assert type(raised.value) is kind and raised.value.param == "model" and str(path)[:40] in str(raised.value)
    del raised
    assert open_files(path) == []


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.safetensors", {"general.architecture": "llama"}, {})
    with open_checkpoint(tmp_path / "model.safetensors", tmp_path / "home") as checkpoint:
        assert isinstance(checkpoint, GGUFFile)
        assert checkpoint.metadata.get_str("general.architecture") == "llama"
        assert len(checkpoint.digest) == 64


FOREIGN: dict[str, tuple[bytes, str]] = {
    "safetensors": (len(b'{"a":{}}').to_bytes(8, "little") + b'{"a":{}}', "a safetensors file"),
    "PyTorch": (b"PK\x03\x04" + bytes(100), "a zip archive, such as a PyTorch checkpoint"),
    "pickle": (b"\x80\x02}q\x00.", "a Python pickle, such as a PyTorch checkpoint"),
    "Keras": (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    "GGML": (b"lmgg" + bytes(100), "a GGML file, the format before GGUF"),
    "GGJT": (b"tjgg" + bytes(100), "a GGJT file, the format before GGUF"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_formats(tmp_path: Path, name: str) -> None:
    content, got = FOREIGN[name]
    (tmp_path / "model.gguf").write_bytes(content)
    _refused(tmp_path / "model.gguf", UnsupportedModel, f"expected a GGUF file, got {got}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a model, got an empty file"),
        (b"G", "expected a GGUF file, got one that starts with b'G'"),
        (b"<!DOCTYPE html>", "got one that starts with b'<!DOCTYP'"),
        (b"\xff" * 7 + b"\x7f{", "got one that starts with"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "got a Git LFS pointer"),
        (b"GGUF", "version: expected 4 bytes at offset 4, but the file ends at 4"),
    ],
)
def test_no_model_at_all(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "model.gguf").write_bytes(content)
    _refused(tmp_path / "model.gguf", InvalidModel, message)


@pytest.mark.parametrize("name", ["lost", "lost/model.gguf", "file/model.gguf", "x" * 300, "nul\0byte"])
def test_missing(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    _refused(tmp_path / name, ModelNotFound, "expected a model file, got a path where there is none")


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    _refused(tmp_path / "pipe", UnsupportedModel, "expected a file, got a pipe, socket or device")
    _refused(Path("/dev/zero"), UnsupportedModel, "expected a file, got a pipe, socket or device")


def test_what_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        _refused(tmp_path / "socket", StorageError, "cannot be read: No such device or address")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("lepton_ai.weights.files._open_without_waiting", refuse)
    _refused(tmp_path / "model.gguf", StorageError, "cannot be read: Permission denied")
