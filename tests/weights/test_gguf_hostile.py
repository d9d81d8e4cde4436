"""Hostile GGUF headers, one by one: each is refused, the error says what was wrong, and it costs next to nothing."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.weights.gguf_writer import EncodedGGUF, Tensor, Typed, Value, encode_gguf
from tests.weights.open_files import open_files

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.weights import gguf_header, gguf_values
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.gguf import GGUFFile
from lepton_ai.weights.gguf_values import ValueType

METADATA: dict[str, Value] = {"name": "x", "tokens": ["a", "b"], "types": [1, 2], "nested": [[1], [2]]}
TENSORS: dict[str, Tensor] = {
    "a": (WeightType.Q8_0, (2, 32), bytes(68)),
    "b": (WeightType.F32, (3,), bytes(12)),
}


def _encoded() -> EncodedGGUF:
    return encode_gguf(METADATA, TENSORS)


@pytest.fixture(autouse=True)
def _bounded_memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def _refused(tmp_path: Path, data: bytes, message: str, kind: type[InvalidModel] = InvalidModel) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    with pytest.raises(InvalidModel, match=rf"^{path}: {message}") as raised:
        GGUFFile(path).close()
    assert type(raised.value) is kind and raised.value.param == "model"


# field, value, message
PATCHES: list[tuple[str, int, str]] = [
    ("num_tensors", 2**64 - 1, "number of tensors: expected at most 65536, got 18446744073709551615"),
    ("num_tensors", 65_000, r"number of tensors: expected at most \d+ before the file ends, got 65000"),
    ("num_tensors", 3, "length of the tensor name: expected 1 to 64 bytes, got 0"),
    ("num_keys", 2**63, "number of metadata keys: expected at most 65536, got 9223372036854775808"),
    ("num_keys", 60_000, r"number of metadata keys: expected at most \d+ before the file ends, got 60000"),
    ("key name: name_length", 2**64 - 1, "length of the metadata key 0: expected 1 to 65535 bytes, got 18446744073"),
    ("key name: name_length", 0, "length of the metadata key 0: expected 1 to 65535 bytes, got 0"),
    ("key name: name_length", 60_000, r"metadata key 0: expected 60000 bytes at offset 32, but the file ends at \d+"),
    ("key name: type", 13, "type of 'name': expected 0 to 12, got 13"),
    ("key name: type", 2**32 - 1, "type of 'name': expected 0 to 12, got 4294967295"),
    ("key name: length", 2**64 - 1, r"'name': expected 18446744073709551615 bytes at offset \d+, but the file ends"),
    ("key name: length", 2**63, r"'name': expected 9223372036854775808 bytes"),
    ("key tokens: element_type", 99, "element type of 'tokens': expected 0 to 12, got 99"),
    ("key tokens: length", 2**64 - 1, "length of 'tokens': expected at most 4194304, got 18446744073709551615"),
    ("key tokens: length", 4_000_000, r"length of 'tokens': expected at most \d+ before the file ends, got 4000000"),
    ("key tokens: length", 30, "'tokens': expected 30 strings, got fewer, as the file ends at"),
    ("key tokens: length of 1", 2**64 - 9, "'tokens': expected 2 strings, got fewer"),
    ("key types: length", 2**62, "length of 'types': expected at most 4194304"),
    ("key types: length", 1000, r"length of 'types': expected at most \d+ before the file ends, got 1000"),
    ("key nested: length", 4_194_304, r"length of 'nested': expected at most \d+ before the file ends"),
    ("key nested[0]: length", 2**61, "length of 'nested': expected at most 4194304"),
    ("tensor a: name_length", 65, "length of the tensor name: expected 1 to 64 bytes, got 65"),
    ("tensor a: num_dimensions", 0, "tensor 'a': number of dimensions: expected 1 to 4, got 0"),
    ("tensor a: num_dimensions", 5, "tensor 'a': number of dimensions: expected 1 to 4, got 5"),
    ("tensor a: num_dimensions", 2**32 - 1, "tensor 'a': number of dimensions: expected 1 to 4"),
    ("tensor a: dimension0", 0, r"tensor 'a': shape: expected dimensions of at least 1, got \(2, 0\)"),
    ("tensor a: dimension1", 0, r"tensor 'a': shape: expected dimensions of at least 1, got \(0, 32\)"),
    (
        "tensor a: dimension0",
        33,
        r"tensor 'a': shape: expected rows of whole Q8_0 blocks of 32 .*, got \(2, 33\)",
    ),
    ("tensor a: dimension1", 2**63, "tensor 'a': expected 313594649253062377472 bytes of Q8_0"),
    ("tensor a: dimension0", 2**64 - 32, "tensor 'a': expected 39199331156632797116 bytes of Q8_0"),
    ("tensor b: dimension0", 2**62, "tensor 'b': expected 18446744073709551616 bytes of F32"),
    ("tensor b: dimension0", 4, r"tensor 'b': expected 16 bytes of F32 \(4,\) at offset \d+, got a file of \d+ bytes"),
    ("tensor b: offset", 2**64 - 32, "tensor 'b': expected 12 bytes of F32"),
    ("tensor b: offset", 97, "tensor 'b': offset: expected a multiple of 32, got 97"),
    ("tensor b: offset", 64, "tensors 'a' and 'b': expected bytes of their own, got shared ones"),
    ("tensor b: offset", 0, "tensors '.' and '.': expected bytes of their own, got shared ones"),
]


@pytest.mark.parametrize(("field", "value", "message"), PATCHES)
def test_a_wrong_number(tmp_path: Path, field: str, value: int, message: str) -> None:
    _refused(tmp_path, _encoded().patched(field, value), message)


UNSUPPORTED: list[tuple[str, int, str]] = [
    ("version", 0, "expected GGUF version 2 or 3, got version 0"),
    ("version", 1, "expected GGUF version 2 or 3, got version 1"),
    ("version", 4, "expected GGUF version 2 or 3, got version 4"),
    ("version", 3 << 24, "expected a little-endian GGUF, got a big-endian one"),
    ("tensor a: type", 9, "tensor 'a': expected type F32, .*, got Q8_1"),
    ("tensor a: type", 21, "tensor 'a': expected type F32, .*, got IQ3_S"),
    ("tensor a: type", 34, "tensor 'a': expected type F32, .*, got TQ1_0"),
    ("tensor a: type", 4, "tensor 'a': expected type F32, .*, got unknown type 4"),
    ("tensor a: type", 2**32 - 1, "tensor 'a': expected type F32, .*, got unknown type 4294967295"),
]


@pytest.mark.parametrize(("field", "value", "message"), UNSUPPORTED)
def test_an_unsupported_number(tmp_path: Path, field: str, value: int, message: str) -> None:
    _refused(tmp_path, _encoded().patched(field, value), message, UnsupportedModel)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = bytes(_encoded().data)
    path = tmp_path / "m.gguf"
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidModel):
            GGUFFile(path).close()
    path.write_bytes(whole)
    GGUFFile(path).close()


def test_magic(tmp_path: Path) -> None:
    _refused(tmp_path, b"GGUX" + bytes(_encoded().data[4:]), "magic: expected b'GGUF', got b'GGUX'")


def test_duplicate_key(tmp_path: Path) -> None:
    data = encode_gguf({"k1": 1, "k2": 2}, {}).data.replace(b"k2", b"k1")
    _refused(tmp_path, bytes(data), "'k1': expected one value, got the key a second time")


def test_duplicate_tensor(tmp_path: Path) -> None:
    scalar: Tensor = (WeightType.F32, (1,), bytes(4))
    data = encode_gguf({}, {"t1": scalar, "t2": scalar}).data.replace(b"t2", b"t1")
    _refused(tmp_path, bytes(data), "tensor 't1': expected one entry, got the name a second time")


def test_key_and_tensor_name_that_are_not_utf8(tmp_path: Path) -> None:
    data = encode_gguf({"key": 1}, {"name": (WeightType.F32, (1,), bytes(4))}).data
    _refused(tmp_path, bytes(data.replace(b"key", b"k\xffy")), r"metadata key 0: expected UTF-8 text, got b'k\\xffy'")
    _refused(tmp_path, bytes(data.replace(b"name", b"\xc3\x28me")), "tensor name: expected UTF-8 text")


def test_depth_of_nested_arrays(tmp_path: Path) -> None:
    deepest = [[[[7]]]]
    path = tmp_path / "m.gguf"
    path.write_bytes(encode_gguf({"key": deepest}, {}).data)
    with GGUFFile(path) as model:
        assert str(model.metadata["key"]) == "[[[array([7], dtype=int32)]]]"
    _refused(tmp_path, bytes(encode_gguf({"key": [deepest]}, {}).data), "'key': expected arrays nested at most 4 deep")


def test_nesting_without_end(tmp_path: Path) -> None:
    array_of_one_array = struct.pack("<IQ", ValueType.ARRAY, 1)
    data = encode_gguf({"key": [[1]]}, {})
    start = data.fields["key key: element_type"][0]
    _refused(tmp_path, bytes(data.data[:start]) + array_of_one_array * 100_000, "'key': expected arrays nested")


@pytest.mark.parametrize("alignment", [0, 1, 4, 24, 33, 1 << 17, 2**31])
def test_alignment(tmp_path: Path, alignment: int) -> None:
    data = encode_gguf({"general.alignment": alignment}, {}).data
    message = f"general.alignment: expected a power of two from 8 to 65536, got {alignment}"
    _refused(tmp_path, bytes(data), message)


def test_alignment_of_another_type(tmp_path: Path) -> None:
    data = encode_gguf({"general.alignment": Typed(ValueType.U64, 32)}, {}).data
    _refused(tmp_path, bytes(data), "general.alignment: expected u32, got u64")


def test_metadata_past_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(encode_gguf({"key": "x" * 1000}, {}).data)
    monkeypatch.setattr(gguf_header, "MAX_HEADER_BYTES", 512)
    _refused(tmp_path, data, r"'key': expected 1000 bytes at offset \d+, but the limit of headers lies at 512")


def test_array_past_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(encode_gguf({"key": [1, 2, 3]}, {}).data)
    monkeypatch.setattr(gguf_values, "MAX_ARRAY_LENGTH", 2)
    _refused(tmp_path, data, "length of 'key': expected at most 2, got 3")


def test_a_sparse_file_of_empty_strings(tmp_path: Path) -> None:
    """Gigabytes of zeros that cost nothing to send: an array of as many empty strings as the limits allow."""
    encoded = encode_gguf({"key": ["a"]}, {})
    data = encoded.patched("key key: length", gguf_values.MAX_ARRAY_LENGTH + 1)
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    with path.open("r+b") as file:
        file.truncate(1 << 32)
    with pytest.raises(InvalidModel, match="expected at most 4194304, got 4194305"):
        GGUFFile(path).close()


def test_a_failed_open_leaves_no_open_file(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(_encoded().patched("version", 9))
    for _ in range(3):
        with pytest.raises(UnsupportedModel):
            GGUFFile(path)
    assert open_files(tmp_path) == []
