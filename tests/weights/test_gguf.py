"""GGUF files as weight stores: what is read from good ones."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from tests.weights.blocks import random_bytes
from tests.weights.gguf_writer import TENSOR_TYPE_TAGS, Tensor, Value, write_gguf
from tests.weights.open_files import open_files

from lepton_ai.errors import WeightMismatch
from lepton_ai.graph.tensor import Weight
from lepton_ai.weights.formats import WeightType, dequantize
from lepton_ai.weights.gguf import GGUFFile
from lepton_ai.weights.store import WeightStore, check_strict


def _tensors() -> dict[str, Tensor]:
    """One tensor of each type, of 1 to 4 dimensions, none a multiple of the alignment."""
    rng = np.random.default_rng(0)
    tensors: dict[str, Tensor] = {}
    for index, weight_type in enumerate(TENSOR_TYPE_TAGS):
        shape = (3, 1, 5, weight_type.block_elements)[3 - index % 4 :]
        tensors[f"blk.{index}.weight"] = (weight_type, shape, random_bytes(weight_type, shape, rng))
    return tensors


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [8, 32, 4096])
def test_tensors(tmp_path: Path, version: int, alignment: int) -> None:
    tensors = _tensors()
    write_gguf(tmp_path / "m.gguf", {"general.name": "x"}, tensors, version=version, alignment=alignment)
    with GGUFFile(tmp_path / "m.gguf") as model:
        store: WeightStore = model
        assert (model.version, model.alignment) == (version, alignment)
        assert list(store.names()) == list(tensors)
        for name, (weight_type, shape, data) in tensors.items():
            tensor = store.get(name)
            assert (tensor.name, tensor.type, tensor.shape) == (name, weight_type, shape)
            assert tensor.data.tobytes() == data and not tensor.data.flags.writeable


def test_the_outside_reader_agrees(tmp_path: Path) -> None:
    """The writer of these tests is not the judge of the reader: the ``gguf`` package is."""
    tensors = _tensors()
    metadata: dict[str, Value] = {
        "general.name": "写",
        "n": 7,
        "f": 0.5,
        "tokens": ["a", "", "c"],
        "types": [1, -2],
        "flag": True,
    }
    write_gguf(tmp_path / "m.gguf", metadata, tensors)
    theirs = gguf.GGUFReader(tmp_path / "m.gguf")
    with GGUFFile(tmp_path / "m.gguf") as ours:
        for tensor in theirs.tensors:
            mine = ours.get(tensor.name)
            assert mine.shape == tuple(int(n) for n in tensor.shape[::-1])
            assert mine.type.value == tensor.tensor_type.name
            assert mine.data.tobytes() == tensor.data.tobytes()
        assert [t.name for t in theirs.tensors] == list(ours.names())
        for key in metadata:
            value = ours.metadata[key]
            listed = value.tolist() if isinstance(value, np.ndarray) else value
            field = theirs.get_field(key)
            assert field is not None and field.contents() == listed == metadata[key]


def test_tensors_outlive_the_file(tmp_path: Path) -> None:
    tensors = _tensors()
    write_gguf(tmp_path / "m.gguf", {}, tensors)
    with GGUFFile(tmp_path / "m.gguf") as model:
        kept = {name: model.get(name) for name in model.names()}
        weakest = model
    for name, tensor in kept.items():
        assert tensor.data.tobytes() == tensors[name][2]
    for use in (lambda: weakest.get("blk.0.weight"), lambda: weakest.release("blk.0.weight")):
        with pytest.raises(ValueError, match=r"m\.gguf is closed"):
            use()
    weakest.close()


def test_released_pages_come_back(tmp_path: Path) -> None:
    tensors = _tensors()
    write_gguf(tmp_path / "m.gguf", {}, tensors)
    with GGUFFile(tmp_path / "m.gguf") as model:
        for name in model.names():
            tensor = model.get(name)
            model.release(name)
            assert tensor.data.tobytes() == tensors[name][2]


def test_release_gives_memory_back(tmp_path: Path) -> None:
    data = np.ones(16 << 20, np.uint8).tobytes()
    write_gguf(tmp_path / "m.gguf", {}, {"big": (WeightType.F32, (len(data) // 4,), data)})
    with GGUFFile(tmp_path / "m.gguf") as model:
        assert int(model.get("big").data.sum()) == len(data)
        before = _resident_bytes()
        model.release("big")
        assert before - _resident_bytes() > 12 << 20


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_unknown_tensor(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", {}, _tensors())
    with GGUFFile(tmp_path / "m.gguf") as model:
        with pytest.raises(WeightMismatch, match=r"m\.gguf: expected a tensor 'lost', got none"):
            model.get("lost")
        with pytest.raises(WeightMismatch):
            model.release("lost")


def test_a_file_without_tensors_or_keys(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", {}, {})
    with GGUFFile(tmp_path / "m.gguf") as model:
        assert list(model.names()) == [] and len(model.metadata) == 0


def test_no_open_file_is_left(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", {}, _tensors())
    for _ in range(3):
        with GGUFFile(tmp_path / "m.gguf") as model:
            kept = model.get("blk.0.weight")
        assert kept.data.size
        del kept
    assert open_files(tmp_path) == []


def test_opening_a_large_vocabulary_is_cheap(tmp_path: Path) -> None:
    tokens = [f"token{i}" for i in range(151_936)]
    write_gguf(tmp_path / "m.gguf", {"tokens": tokens, "merges": tokens, "types": list(range(151_936))}, {})
    tracemalloc.start()
    with GGUFFile(tmp_path / "m.gguf") as model:
        assert tracemalloc.get_traced_memory()[0] < 100_000  # nothing of the arrays is kept
        tracemalloc.stop()
        started = time.process_time()
        assert model.metadata.get_str_array("tokens") == tokens
        assert time.process_time() - started < 0.3
    started = time.process_time()
    with GGUFFile(tmp_path / "m.gguf"):
        assert time.process_time() - started < 0.1


def test_strict_loading(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", {}, _tensors())
    with GGUFFile(tmp_path / "m.gguf") as model:
        wanted = [Weight(name, model.get(name).shape) for name in model.names()]
        check_strict(model, wanted)
        check_strict(model, wanted[1:], ignorable=[wanted[0].name])
        with pytest.raises(WeightMismatch, match=r"unexpected blk\.0\.weight$"):
            check_strict(model, wanted[1:])
        with pytest.raises(WeightMismatch, match=r"missing lost \(3, 4\)"):
            check_strict(model, [*wanted, Weight("lost", (3, 4))])
        with pytest.raises(WeightMismatch, match=r"blk\.1\.weight has shape \(5, 1\), expected \(1, 5\)"):
            check_strict(model, [wanted[0], Weight("blk.1.weight", (1, 5)), *wanted[2:]])
        with pytest.raises(WeightMismatch, match=f"; and {len(wanted) - 8} more$") as raised:
            check_strict(model, [])
        assert str(raised.value).count("unexpected") == 8


def test_smollm2(smollm2_path: Path) -> None:
    with GGUFFile(smollm2_path) as model:
        assert model.metadata.get_str("general.architecture") == "llama"
        assert model.metadata.get_int("llama.block_count") == 30
        assert model.metadata.array_length("tokenizer.ggml.tokens") == 49_152
        assert model.metadata.get_str_array("tokenizer.ggml.tokens")[:2] == ["<|endoftext|>", "<|im_start|>"]
        assert len(model.names()) == 272
        norm = model.get("output_norm.weight")
        assert norm.shape == (576,) and np.isfinite(dequantize(norm.data, norm.type, norm.shape)).all()
        assert model.digest == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
