"""Typed access to metadata: every stored type, and an error that names the key for every wrong one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from tests.weights.gguf_writer import Typed, Value, encode_gguf, write_gguf

from lepton_ai.errors import InvalidModel
from lepton_ai.weights.gguf import GGUFFile
from lepton_ai.weights.gguf_metadata import Metadata
from lepton_ai.weights.gguf_values import ValueType

Stored: TypeAlias = Callable[[Mapping[str, Value]], Metadata]

SCALARS: dict[str, tuple[Typed, object]] = {
    "u8": (Typed(ValueType.U8, 255), 255),
    "i8": (Typed(ValueType.I8, -128), -128),
    "u16": (Typed(ValueType.U16, 65_535), 65_535),
    "i16": (Typed(ValueType.I16, -32_768), -32_768),
    "u32": (Typed(ValueType.U32, 2**32 - 1), 2**32 - 1),
    "i32": (Typed(ValueType.I32, -(2**31)), -(2**31)),
    "u64": (Typed(ValueType.U64, 2**64 - 1), 2**64 - 1),
    "i64": (Typed(ValueType.I64, -(2**63)), -(2**63)),
    "f32": (Typed(ValueType.F32, 0.1), float(np.float32(0.1))),
    "f64": (Typed(ValueType.F64, 0.1), 0.1),
    "bool": (Typed(ValueType.BOOL, True), True),
    "string": (Typed(ValueType.STRING, "naïve 写 \0"), "naïve 写 \0"),
}


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    """Writes metadata to a file and reads it back."""
    with contextlib.ExitStack() as files:

        def write_and_open(values: Mapping[str, Value]) -> Metadata:
            write_gguf(tmp_path / "m.gguf", values, {})
            return files.enter_context(GGUFFile(tmp_path / "m.gguf")).metadata

        yield write_and_open


@pytest.mark.parametrize("name", SCALARS)
def test_scalars(stored: Stored, name: str) -> None:
    typed, expected = SCALARS[name]
    metadata = stored({"before": 1, "key": typed, "after": "x"})
    assert metadata["key"] == expected and type(metadata["key"]) is type(expected)
    assert metadata.type_name("key") == name
    assert list(metadata) == ["before", "key", "after"] and len(metadata) == 3
    assert metadata["after"] == "x"


@pytest.mark.parametrize("value_type", [t for t in ValueType if t not in (ValueType.STRING, ValueType.ARRAY)])
def test_number_arrays_keep_their_type(stored: Stored, value_type: ValueType) -> None:
    values = [1, 0, 1] if value_type is not ValueType.BOOL else [True, False, True]
    metadata = stored({"odd": "x", "key": Typed(value_type, values), "after": 7})
    found = metadata["key"]
    assert isinstance(found, np.ndarray) and found.tolist() == values
    assert metadata.array_length("key") == 3 and metadata["after"] == 7


def test_string_arrays(stored: Stored) -> None:
    tokens = ["", "a", "写一个", "\0" * 9, "x" * 70_000, *(f"token{i}" for i in range(3000))]
    metadata = stored({"tokens": tokens, "none": [], "after": 7})
    assert metadata.get_str_array("tokens") == tokens and metadata.get_str_array("none") == []
    assert metadata.array_length("tokens") == len(tokens)
    assert metadata.type_name("tokens") == "array of 3005 string"
    assert metadata["after"] == 7


def test_nested_arrays(stored: Stored) -> None:
    metadata = stored({"key": [["a", "b"], [], ["c"]], "numbers": [[[1, 2]], [[3]]], "after": 7})
    assert metadata["key"] == [["a", "b"], [], ["c"]]
    deep = metadata["numbers"]
    assert isinstance(deep, list) and np.asarray(deep[0]).tolist() == [[1, 2]] and metadata["after"] == 7


def test_getters_return_what_is_stored(stored: Stored) -> None:
    values: dict[str, Value] = {"i": 7, "f": 0.5, "b": False, "s": "x", "ia": [1, -2], "fa": [0.5, -1.0]}
    metadata = stored(values)
    assert metadata.get_int("i") == 7 and metadata.get_float("f") == 0.5
    assert metadata.get_bool("b") is False and metadata.get_str("s") == "x"
    integers, floats = metadata.get_int_array("ia"), metadata.get_float_array("fa")
    assert integers.dtype == np.int64 and integers.tolist() == [1, -2]
    assert floats.dtype == np.float64 and floats.tolist() == [0.5, -1.0]
    assert metadata.get("missing") is None and "i" in metadata and "missing" not in metadata


def test_defaults_stand_only_for_missing_keys(stored: Stored) -> None:
    metadata = stored({"s": "x", "i": 3})
    assert metadata.get_int("none", 4) == 4 and metadata.get_int("i", 4) == 3
    assert metadata.get_float("none", 0.0) == 0.0 and metadata.get_str("none", "") == ""
    assert metadata.get_bool("none", False) is False
    with pytest.raises(InvalidModel, match="'s': expected an integer, got string"):
        metadata.get_int("s", 4)


GETTERS: dict[str, tuple[Callable[[Metadata, str], object], str]] = {
    "an integer": (Metadata.get_int, "i"),
    "a floating-point number": (Metadata.get_float, "f"),
    "a boolean": (Metadata.get_bool, "b"),
    "a string": (Metadata.get_str, "s"),
    "an array of strings": (Metadata.get_str_array, "sa"),
    "an array of integers": (Metadata.get_int_array, "ia"),
    "an array of floating-point numbers": (Metadata.get_float_array, "fa"),
}


@pytest.mark.parametrize("expected", GETTERS)
def test_a_wrong_or_missing_value_is_named(stored: Stored, expected: str) -> None:
    values: dict[str, Value] = {"i": 7, "f": 0.5, "b": True, "s": "x", "sa": ["x"], "ia": [1], "fa": [0.5]}
    metadata = stored({**values, "ba": [True], "nested": [["x"]]})
    getter, own_key = GETTERS[expected]
    for key in set(metadata) - {own_key}:
        with pytest.raises(InvalidModel, match=f"m.gguf: '{key}': expected {expected}, got ") as raised:
            getter(metadata, key)
        assert metadata.type_name(key) in str(raised.value) and raised.value.param == "model"
    with pytest.raises(InvalidModel, match=f"'lost': expected {expected}, got nothing: the key is missing"):
        getter(metadata, "lost")


def test_bounds(stored: Stored) -> None:
    metadata = stored({"n": 5})
    assert metadata.get_int("n", minimum=5, maximum=5) == 5
    with pytest.raises(InvalidModel, match="'n': expected at least 6, got 5"):
        metadata.get_int("n", minimum=6)
    with pytest.raises(InvalidModel, match="'n': expected at most 4, got 5"):
        metadata.get_int("n", maximum=4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_must_be_finite(stored: Stored, value: float) -> None:
    metadata = stored({"f": value, "fa": [1.0, value]})
    with pytest.raises(InvalidModel, match="'f': expected a finite number, got"):
        metadata.get_float("f")
    with pytest.raises(InvalidModel, match="'fa': expected finite numbers"):
        metadata.get_float_array("fa")


def test_large_unsigned_integers_do_not_turn_negative(stored: Stored) -> None:
    metadata = stored({"key": Typed(ValueType.U64, [1, 2**63])})
    with pytest.raises(InvalidModel, match=r"expected integers below 2\^63, got 9223372036854775808"):
        metadata.get_int_array("key")


@pytest.mark.parametrize("value", ["abc", ["ok", "abc"], [["abc"]]])
def test_invalid_utf8_is_refused_when_asked_for(tmp_path: Path, value: Value) -> None:
    data = bytes(encode_gguf({"key": value}, {}).data).replace(b"abc", b"a\xffc")
    (tmp_path / "m.gguf").write_bytes(data)
    with GGUFFile(tmp_path / "m.gguf") as model, pytest.raises(InvalidModel, match=r"'key': expected UTF-8.*0xff at"):
        model.metadata["key"]


@pytest.mark.parametrize("value", [True, [True]])
def test_booleans_are_0_or_1(tmp_path: Path, value: Value) -> None:
    data = encode_gguf({"key": value}, {}).data
    assert data[-1] == 1
    data[-1] = 2
    (tmp_path / "m.gguf").write_bytes(data)
    with GGUFFile(tmp_path / "m.gguf") as model, pytest.raises(InvalidModel, match=r"'key': expected boolean .*got 2"):
        model.metadata["key"]


def test_a_hostile_key_cannot_write_to_the_terminal(stored: Stored) -> None:
    metadata = stored({"\x1b[2J" + "k" * 5000: "x"})
    with pytest.raises(InvalidModel) as raised:
        metadata.get_int(next(iter(metadata)))
    assert "\x1b" not in str(raised.value) and len(str(raised.value)) < 600


def test_closed(stored: Stored) -> None:
    metadata = stored({"key": 1})
    metadata.close()
    with pytest.raises(ValueError, match="is closed"):
        metadata.get_int("key")
