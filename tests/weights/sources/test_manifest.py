from __future__ import annotations

import hashlib
import json

import pytest

from lepton_ai.weights.sources.manifest import Manifest, ModelFile, parse_manifest, weights_digest


def _files(*names: str) -> tuple[ModelFile, ...]:
    return tuple(ModelFile(name, i + 1, f"{i:064x}") for i, name in enumerate(names))


def test_a_manifest_is_read_as_it_was_written() -> None:
    manifest = Manifest(_files("config.json", "model.safetensors"), "MIT", {"revision": "abc"})
    assert parse_manifest(manifest.to_json().encode()) == manifest
    assert manifest.size_bytes == 3


def test_a_manifest_without_a_list_is_of_one_gguf_file() -> None:
    old = {"version": 1, "name": "tiny", "size_bytes": 20, "sha256": "a" * 64, "licence": "MIT", "parts": []}
    manifest = parse_manifest(json.dumps(old).encode())
    assert manifest == Manifest((ModelFile("model.gguf", 20, "a" * 64),), "MIT")
    assert (manifest.entry, manifest.sha256) == ("model.gguf", "a" * 64)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"version": 2}', b'{"version": 1, "files": [{}], "licence": ""}']
)
def test_anything_else_is_an_error(data: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        parse_manifest(data)


@pytest.mark.parametrize(
    ("names", "entry"),
    [
        (("model.gguf",), "model.gguf"),
        (("m-00002-of-00002.gguf", "m-00001-of-00002.gguf"), "m-00001-of-00002.gguf"),
        (("config.json", "model.safetensors"), ""),
    ],
)
def test_what_is_opened(names: tuple[str, ...], entry: str) -> None:
    assert Manifest(_files(*names), "MIT").entry == entry


def test_the_digest_is_that_of_the_weights() -> None:
    one, two = _files("b.safetensors", "a.safetensors")
    assert weights_digest((*_files("config.json"), two)) == two.sha256
    joined = hashlib.sha256((two.sha256 + one.sha256).encode()).hexdigest()
    assert weights_digest((one, two)) == weights_digest((two, one)) == joined
