from __future__ import annotations

import pytest

from lepton_ai.errors import InvalidRequest
from lepton_ai.weights.sources.references import HubReference, PackageReference, canonical_name, parse_reference


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


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("hf:a/b", HubReference("a/b")),
        ("hf:Org-1/My.Model_2@v1.0", HubReference("Org-1/My.Model_2", "v1.0")),
        ("hf:a/b@refs/pr/1:q4/m.gguf", HubReference("a/b", "refs/pr/1", "q4/m.gguf")),
        ("hf:a/b:sub/", HubReference("a/b", None, "sub")),
    ],
)
def test_a_repository(text: str, reference: HubReference) -> None:
    assert parse_reference(text) == reference
    assert parse_reference(reference.name) == reference


@pytest.mark.parametrize(
    "text",
    [
        "hf:",
        "hf:gpt2",
        "hf:a/b/c",
        "hf:/b",
        "hf:a/../b",
        "hf:a/b..c",
        "hf:a/b--c",
        "hf:a/b@",
        "hf:a/b@../x",
        "hf:a/b@x/../y",
        "hf:a/b@x?y",
        "hf:a/b:",
        "hf:a/b:/etc/passwd",
        "hf:a/b:../x.gguf",
        "hf:user:hunter2@host/b",
    ],
)
def test_a_malformed_repository(text: str) -> None:
    with pytest.raises(InvalidRequest, match="model: expected hf:owner/name"):
        parse_reference(text)


def test_a_name_must_fit_a_folder() -> None:
    with pytest.raises(InvalidRequest, match="a shorter name"):
        parse_reference(f"pypi:{'a' * 240}==1")


def test_canonical_names() -> None:
    assert canonical_name("SmolLM2-135M") == "smollm2"
    assert canonical_name("pypi:A_b==1") == "pypi:a-b==1"
    assert canonical_name("other") is None and canonical_name("/a/path.gguf") is None
