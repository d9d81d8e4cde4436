"""The safetensors reader: what the format's own library writes, and headers that it must refuse."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.weights.safetensors_writer import encode_safetensors

from lepton_ai.errors import InvalidModel, UnsupportedModel, WeightMismatch
from lepton_ai.weights.formats import WeightType, dequantize
from lepton_ai.weights.safetensors import MAX_HEADER_BYTES, SafetensorsFile

F32_OF_8 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def _opened(tmp_path: Path, header: dict[str, object] | str, payload: bytes = b"") -> SafetensorsFile:
    path = tmp_path / "m.safetensors"
    path.write_bytes(encode_safetensors(header, payload))
    return SafetensorsFile(path)


def _refused(tmp_path: Path, header: dict[str, object] | str, message: str, payload: bytes = bytes(8)) -> None:
    with pytest.raises(InvalidModel, match=message) as raised:
        _opened(tmp_path, header, payload).close()
    assert type(raised.value) is InvalidModel and str(tmp_path) in str(raised.value) and raised.value.param == "model"


def test_reads_what_the_library_writes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[Any]]] = {
        "a": rng.normal(size=(3, 5)).astype("f4"),
        "b.c": rng.normal(size=7).astype("f2"),
        "d": np.zeros(0, "f4"),
    }
    save_file(arrays, tmp_path / "m.safetensors", metadata={"format": "np"})
    with SafetensorsFile(tmp_path / "m.safetensors") as file:
        assert sorted(file.names()) == ["a", "b.c", "d"] and len(file.digest) == 64
        for name, array in arrays.items():
            tensor = file.get(name)
            expected_type = {"f4": WeightType.F32, "f2": WeightType.F16}[array.dtype.str[1:]]
            assert (tensor.name, tensor.shape, tensor.type) == (name, array.shape, expected_type)
            np.testing.assert_array_equal(dequantize(tensor.data, tensor.type, tensor.shape), array.astype("f4"))


def test_bfloat16_keeps_its_nans(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, np.inf, np.nan], np.float32)
    stored = (values.view("u4") >> 16).astype("<u2").tobytes()
    header: dict[str, object] = {"w": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}
    with _opened(tmp_path, header, stored) as file:
        tensor = file.get("w")
        assert tensor.type is WeightType.BF16
        np.testing.assert_array_equal(dequantize(tensor.data, tensor.type, tensor.shape), values)


def test_tensors_are_views_of_the_map_and_outlive_the_file(tmp_path: Path) -> None:
    num_bytes = 64 << 20
    header: dict[str, object] = {"w": {"dtype": "F32", "shape": [num_bytes // 4], "data_offsets": [0, num_bytes]}}
    path = tmp_path / "m.safetensors"
    path.write_bytes(encode_safetensors(header))
    with path.open("ab") as file:
        file.truncate(path.stat().st_size + num_bytes)
    tracemalloc.start()
    with SafetensorsFile(path) as opened:
        tensor = opened.get("w")
        assert tensor.data.nbytes == num_bytes and not tensor.data.flags.writeable
        opened.release("w")
    assert int(tensor.data[-1]) == 0
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    with pytest.raises(ValueError, match="is closed"):
        opened.get("w")


def test_a_type_that_is_no_weights_is_refused_when_asked_for(tmp_path: Path) -> None:
    header: dict[str, object] = {"ids": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}
    with _opened(tmp_path, header, bytes(8)) as file:
        assert file.names() == ("ids",)
        with pytest.raises(UnsupportedModel, match="'ids': expected a weight of type F32, F16, BF16, got I64"):
            file.get("ids")
        with pytest.raises(WeightMismatch, match="expected a tensor 'w', got none"):
            file.get("w")


def _with(**fields: object) -> dict[str, object]:
    return {"w": {**F32_OF_8, **fields}}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("[1, 2]", "expected an object, got list"),
        ('{"w": ', "expected JSON, got what is not"),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ("[" * 100_000, "nested too deeply|expected JSON"),
        ('{"w": 1, "w": 2}', "key 'w' stands there twice"),
        ({"__metadata__": {"a": 1}, "w": F32_OF_8}, "__metadata__: expected an object of strings"),
        ({"w": {"dtype": "F32"}}, "'w': expected dtype, shape and data_offsets"),
        (_with(extra=1), "'w': expected dtype, shape and data_offsets"),
        (_with(dtype="Q4"), "dtype: expected one of BOOL, .*, got 'Q4'"),
        (_with(shape=[-2]), "shape: expected at most 8 sizes"),
        (_with(shape=[True, 2]), "shape: expected at most 8 sizes"),
        (_with(shape=[1 << 40, 1 << 40, 0]), "shape: expected at most 8 sizes"),
        (_with(shape=[1 << 63, 0], data_offsets=[0, 0]), "shape: expected at most 8 sizes"),
        (_with(shape=[1] * 9), "shape: expected at most 8 sizes"),
        (_with(shape=[1 << 49]), "shape: expected at most 8 sizes"),
        (_with(data_offsets=[0, 4]), r"data_offsets: expected 8 bytes of F32 \[2\], got 4"),
        (_with(data_offsets=[8, 0]), "data_offsets: expected a beginning and an end"),
        (_with(data_offsets=[0.0, 8]), "data_offsets: expected a beginning and an end"),
        (_with(data_offsets=[8, 16]), "expected to begin at byte"),
        ({"v": F32_OF_8, "w": F32_OF_8}, "'w': expected to begin at byte"),
        ({}, "expected 10 bytes in all, got a file of 18"),
        ({"w": {**F32_OF_8, "data_offsets": [0, 16], "shape": [4]}}, "bytes in all, got a file of"),
    ],
)
def test_malformed_headers(tmp_path: Path, header: dict[str, object] | str, message: str) -> None:
    _refused(tmp_path, header, message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"abc", "expected a header, got a file of 3 bytes"),
        ((1 << 63).to_bytes(8, "little") + b"{}", "expected 2 to 2 bytes, got 9223372036854775808"),
        ((1).to_bytes(8, "little") + b"{}", "expected 2 to 2 bytes, got 1"),
        ((2).to_bytes(8, "little") + b"\xff\xfe", "expected JSON, got what is not"),
    ],
)
def test_malformed_files(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    with pytest.raises(InvalidModel, match=message):
        SafetensorsFile(path)


def test_a_huge_header_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with path.open("wb") as file:
        file.write((MAX_HEADER_BYTES + 1).to_bytes(8, "little"))
        file.truncate(MAX_HEADER_BYTES * 2)
    tracemalloc.start()
    with pytest.raises(InvalidModel, match=f"expected 2 to {MAX_HEADER_BYTES} bytes"):
        SafetensorsFile(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_names_in_messages_are_escaped_and_cut(tmp_path: Path) -> None:
    _refused(tmp_path, json.dumps({"\x1b[31m" + "x" * 500: 3}), r"'\\x1b\[31mx{70,80}\.\.\.'")
