from __future__ import annotations

import pytest

from lepton_ai.errors import ModelNotFound, UnsupportedModel
from lepton_ai.weights.sources.folder_files import choose_files, is_wanted

FOLDER = ["config.json", "model.safetensors", "tokenizer.json"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("config.json", True),
        ("1_Pooling/config.json", True),
        ("model.safetensors", True),
        ("model-00002-of-00003.safetensors", True),
        ("consolidated.safetensors", False),
        ("adapter_model.safetensors", False),
        ("onnx/model.safetensors", False),
        ("pytorch_model.bin", False),
        ("modeling_tiny.py", False),
        ("model.pt", False),
        ("README.md", False),
        ("../config.json", False),
        ("Config.json", False),
    ],
)
def test_the_list_of_names(name: str, wanted: bool) -> None:
    assert is_wanted(name) is wanted


def test_the_only_folder_is_found_and_only_its_files() -> None:
    names = [f"pkg/data/{name}" for name in (*FOLDER, "model.py", "sub/tokenizer.json")]
    chosen = choose_files([*names, "pkg/config.json", "pkg/__init__.py"], None, "pkg")
    assert chosen == {name: f"pkg/data/{name}" for name in FOLDER}


def test_a_folder_needs_weights_of_its_own() -> None:
    names = [*FOLDER, "1_Pooling/config.json"]
    assert choose_files(names, None, "pkg") == {name: name for name in names}


def test_the_only_gguf_file_is_found() -> None:
    assert choose_files(["pkg/a.gguf", "pkg/__init__.py"], None, "pkg") == {"a.gguf": "pkg/a.gguf"}


def test_all_parts_of_a_split_file_are_one_model() -> None:
    parts = [f"q4/m-{i:05d}-of-00003.gguf" for i in (1, 2, 3)]
    chosen = choose_files(parts, None, "pkg")
    assert sorted(chosen.values()) == parts
    others = [*parts, "q8/m-00001-of-00003.gguf", "q4/m-00001-of-00002.gguf"]
    assert choose_files(others, parts[0], "pkg") == chosen


def test_among_several_one_must_be_named() -> None:
    names = [*FOLDER, "a.gguf", "b/a.gguf"]
    with pytest.raises(ModelNotFound, match=r"found 'a\.gguf', 'b/a\.gguf', '\.'; name one"):
        choose_files(names, None, "pkg")
    assert choose_files(names, "b/a.gguf", "pkg") == {"a.gguf": "b/a.gguf"}
    assert choose_files(names, "", "pkg") == {name: name for name in FOLDER}


def test_many_are_not_all_shown() -> None:
    with pytest.raises(ModelNotFound, match="and 92 more; name one"):
        choose_files([f"{i:03d}.gguf" for i in range(100)], None, "pkg")


@pytest.mark.parametrize("names", [[], ["config.json"], ["model.safetensors"], ["a.bin"]])
def test_a_source_without_a_model(names: list[str]) -> None:
    with pytest.raises(ModelNotFound, match="expected one model in pkg, found none"):
        choose_files(names, None, "pkg")


@pytest.mark.parametrize("member", ["c.gguf", "config.json", "b", "a"])
def test_a_member_that_is_not_there(member: str) -> None:
    with pytest.raises(ModelNotFound, match=f"no GGUF file '{member}' and no folder .* it has 'a.gguf'"):
        choose_files(["a.gguf", "b/x"], member, "pkg")


def test_pickles_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match=r"got pytorch_model\.bin, a pickle"):
        choose_files(["config.json", "pytorch_model.bin"], "", "pkg")
    with pytest.raises(ModelNotFound, match=r"expected model\.safetensors beside config\.json"):
        choose_files(["config.json", "tf_model.h5"], "", "pkg")


@pytest.mark.parametrize("name", ["../a.gguf", "/a.gguf", "b/../a.gguf", "a\\b.gguf", "a\0.gguf", "\x1b[2J.gguf"])
def test_names_that_lead_elsewhere_are_not_there(name: str) -> None:
    with pytest.raises(ModelNotFound, match="found none"):
        choose_files([name], None, "pkg")
