from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bench.peers.hf_folder import Tensor, write_hf_folder, write_safetensors
from safetensors.numpy import load_file
from tests.engine.tiny_gguf import CONTROL, VOCAB_SIZE, tiny_gguf
from tests.weights.gguf_writer import write_gguf

from lepton_ai import LLM
from lepton_ai.text.tokenizer import Tokenizer
from lepton_ai.weights.formats import WeightType, dequantize
from lepton_ai.weights.gguf import GGUFFile


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def folder(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("folder")
    write_hf_folder(source, target)
    return target


def test_config_has_the_numbers_that_were_meant(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config == {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "bos_token_id": 257,
        "eos_token_id": 258,
    }


def test_weights_are_leptons_with_rotated_rows_in_halves(source: Path, folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    with GGUFFile(source) as file:
        assert len(tensors) == len(file.names())
        down, query = (file.get(f"blk.1.{part}.weight") for part in ("ffn_down", "attn_q"))
        expected_down, neighbours = (dequantize(t.data, t.type, t.shape) for t in (down, query))
    np.testing.assert_array_equal(tensors["model.layers.1.mlp.down_proj.weight"], expected_down)
    halves = tensors["model.layers.1.self_attn.q_proj.weight"]
    np.testing.assert_array_equal(halves[16:24], neighbours[16:32:2])
    np.testing.assert_array_equal(halves[24:32], neighbours[17:32:2])


def test_the_folder_predicts_what_the_file_does(source: Path, folder: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 256, 40).tolist()
    logits = []
    for path in (source, folder):
        with LLM(path, policy="exact", max_model_len=64) as llm:
            logits.append(np.concatenate(list(llm.logits(ids))))
    np.testing.assert_allclose(logits[1], logits[0], rtol=1e-4, atol=1e-4)


def test_the_tokenizer_knows_control_tokens_by_their_ids(source: Path, folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.control_tokens == {text: 256 + index for index, text in enumerate(CONTROL)}
    with GGUFFile(source) as file:
        assert tokenizer.encode("Grüße, 1+1") == Tokenizer.from_metadata(file.metadata).encode("Grüße, 1+1")
    whole = json.loads((folder / "tokenizer.json").read_text())
    assert [token["id"] for token in whole["added_tokens"]] == [256, 257, 258]
    assert whole["model"]["vocab"][CONTROL[2]] == 258


def test_quantised_tensors_are_dequantised_as_they_are_written(tmp_path: Path) -> None:
    blocks = np.random.default_rng(1).integers(0, 100, (4, 20), np.uint8)
    write_gguf(tmp_path / "q.gguf", {}, {"w": (WeightType.Q4_1, (4, 32), blocks.tobytes())})
    with GGUFFile(tmp_path / "q.gguf") as file:
        stored = file.get("w")
        expected = dequantize(stored.data, stored.type, stored.shape)
        made = Tensor("w", stored.shape, lambda: dequantize(stored.data, stored.type, stored.shape))
        write_safetensors(tmp_path / "w.safetensors", [made, Tensor("v", (3,), lambda: np.ones(3, np.float32))])
    tensors = load_file(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(tensors["w"], expected)
    np.testing.assert_array_equal(tensors["v"], np.ones(3, np.float32))


def test_windows_are_refused(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "windows.gguf", window=8)
    with pytest.raises(ValueError, match="expected layers that see all positions"):
        write_hf_folder(path, tmp_path)
