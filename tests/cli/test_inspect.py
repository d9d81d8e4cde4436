from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Lepton
from tests.engine.tiny_gguf import CONTEXT_LENGTH, TEMPLATE, VOCAB_SIZE, tiny_gguf
from tests.models.quantized_llama import METHODS, gptq_config, quantized_folder
from tests.weights.gguf_writer import write_gguf

from lepton_ai.backends.cpu.backend import default_kv_dtype
from lepton_ai.backends.cpu.device import choose_isa
from lepton_ai.config import Environment, Policy
from lepton_ai.graph.tensor import DType
from lepton_ai.weights.formats import WeightType

BYTES_PER_HEAD = 16 * 2 + (
    4 if default_kv_dtype(Policy.AUTO, choose_isa(Environment.read().cpu_isa)) is DType.I16 else 0
)
"""A key, or a value, of 16 dimensions, and its scale where the cache of this machine holds codes."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_gguf(tmp_path / "tiny.gguf")


def _foreign(path: Path, metadata: dict[str, str]) -> Path:
    write_gguf(path, metadata, {"w": (WeightType.Q4_0, (2, 64), bytes(72))})
    return path


def test_summary_as_json(lepton: Lepton, model: Path) -> None:
    value = lepton("inspect", str(model), "--json").json()
    embedding, layer = VOCAB_SIZE * 64, 2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 96
    assert value["num_parameters"] == embedding + 2 * layer + 64
    assert value["bits_per_weight"] == 32
    assert (value["architecture"], value["problem"], value["format"]) == ("llama", None, "GGUF 3")
    assert (value["context_length"], value["num_layers"], value["hidden_size"]) == (CONTEXT_LENGTH, 2, 64)
    assert value["vocab_size"] == VOCAB_SIZE
    assert value["kv_bytes_per_token"] == 2 * 2 * 2 * BYTES_PER_HEAD
    assert value["chat_template_characters"] == len(TEMPLATE)
    metadata = value["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["llama.block_count"] == 2
    assert metadata["tokenizer.ggml.tokens"] == f"array of {VOCAB_SIZE} string"
    assert metadata["tokenizer.chat_template"] == TEMPLATE


def test_the_cache_depends_on_the_policy(lepton: Lepton, model: Path) -> None:
    auto = lepton("inspect", str(model), "--json").json()["kv_bytes_per_token"]
    exact = lepton("inspect", str(model), "--json", "--policy", "exact").json()["kv_bytes_per_token"]
    assert (auto, exact) == (2 * 2 * 2 * BYTES_PER_HEAD, 2 * 2 * 2 * 16 * 4)


def test_summary_for_people(lepton: Lepton, model: Path) -> None:
    result = lepton("inspect", str(model))
    assert (result.status, result.err) == (0, "")
    assert "context          256 tokens\n" in result.out
    assert "\nF32 " in result.out
    assert "tokenizer.ggml.tokens" in result.out
    assert TEMPLATE[:40].replace("\n", "�") in result.out and TEMPLATE not in result.out


def test_without_a_chat_template(lepton: Lepton, tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf", has_template=False)
    assert "chat template    none\n" in lepton("inspect", str(path)).out


def test_an_architecture_that_does_not_run_is_shown_with_the_reason(lepton: Lepton, tmp_path: Path) -> None:
    path = _foreign(tmp_path / "foreign.gguf", {"general.architecture": "mamba"})
    value = lepton("inspect", str(path), "--json").json()
    assert value["architecture"] == "mamba" and "'mamba'" in str(value["problem"])
    assert value["types"] == [{"type": "Q4_0", "num_tensors": 1, "num_parameters": 128, "num_bytes": 72}]
    assert value["bits_per_weight"] == 4.5 and value["context_length"] is None
    assert "general.architecture: expected one of" in lepton("inspect", str(path)).out
    result = lepton("inspect", str(path), "--graph")
    assert result.status == 1 and "[unsupported_model]" in result.err


def test_plan_as_json(lepton: Lepton, model: Path) -> None:
    value = lepton("inspect", str(model), "--graph", "--json", "--tokens", "32", "--policy", "exact").json()
    assert (value["policy"], value["max_tokens"], value["max_rows"]) == ("exact", 32, 32)
    tensors = value["tensors"]
    assert isinstance(tensors, list)
    first, last = tensors[0], tensors[-1]
    assert (first["op"], first["shape"], first["dtype"]) == ("embedding", "[T, 64]", "f32")
    assert first["weights"] == [f"token_embd.weight ({VOCAB_SIZE}, 64) F32"]
    assert (last["name"], last["shape"]) == ("logits", f"[R, {VOCAB_SIZE}]")
    assert max(t["offset"] + t["num_bytes"] for t in tensors) == value["arena_bytes"]


def test_plan_for_people(lepton: Lepton, model: Path) -> None:
    lines = lepton("inspect", str(model), "--graph").out.splitlines()
    assert lines[0].split() == ["op", "tensor", "shape", "type", "offset", "bytes", "inputs", "weights"]
    assert lines[1].startswith("embedding ") and f"token_embd.weight ({VOCAB_SIZE}, 64) F32" in lines[1]
    assert any(line.startswith("attention ") and "blk.1.attn" in line for line in lines)
    assert lines[-1].endswith("bytes of arena under policy auto with max_tokens 512, max_rows 64, max_seqs 16")


def test_more_tokens_need_a_larger_arena(lepton: Lepton, model: Path) -> None:
    small, large = (
        lepton("inspect", str(model), "--graph", "--json", "--tokens", tokens).json()["arena_bytes"]
        for tokens in ("64", "512")
    )
    assert isinstance(small, int) and isinstance(large, int) and small < large


@pytest.mark.parametrize(
    ("content", "code"), [(b"", "invalid_model"), (b"GGUF\x03\0\0\0", "invalid_model"), (b"PK\x03\x04", "unsupported")]
)
def test_a_file_that_is_no_model(lepton: Lepton, tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    result = lepton("inspect", str(path))
    assert result.status == 1 and f"[{code}" in result.err and "Traceback" not in result.err


def test_a_folder_with_quantised_layers(lepton: Lepton, tmp_path: Path) -> None:
    path = quantized_folder(tmp_path / "model", METHODS["gptq"])
    value = lepton("inspect", str(path), "--json").json()
    layers = 2 * (2 * 128 * 128 + 2 * 64 * 128 + 3 * 192 * 128)
    types = value["types"]
    assert isinstance(types, list) and value["problem"] is None
    assert types[0] == {
        "type": "INT4_G32",
        "num_tensors": 14,
        "num_parameters": layers,
        "num_bytes": layers * 21 // 32,
    }
    assert types[1]["type"] == "F16" and types[1]["num_tensors"] == 7
    assert value["num_parameters"] == layers + 2 * 50 * 128 + 5 * 128
    plan = lepton("inspect", str(path), "--graph").out
    assert "blk.0.attn_q.weight (128, 128) INT4_G32" in plan and "output.weight (50, 128) F16" in plan


def test_quantised_layers_that_do_not_run(lepton: Lepton, tmp_path: Path) -> None:
    path = quantized_folder(tmp_path / "model", METHODS["gptq"], gptq_config(bits=3))
    result = lepton("inspect", str(path))
    assert result.status == 1 and "bits: expected one of 4, 8, got 3 [unsupported_model]" in result.err


def test_a_name_that_nothing_has(lepton: Lepton) -> None:
    result = lepton("inspect", "no-such-model")
    assert result.status == 1 and "[model_not_found]" in result.err
