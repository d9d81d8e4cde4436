"""A checkpoint's folder of any size, made on the spot: the shape of a Llama, random weights, shards with an index.

It says nothing, at the speed and in the memory of one that does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from lepton_ai.text.byte_level import byte_alphabet

HIDDEN_SIZE, FEED_FORWARD_SIZE, VOCAB_SIZE = 2048, 5632, 32_000
LAYER_BYTES = 2 * (4 * HIDDEN_SIZE**2 + 3 * HIDDEN_SIZE * FEED_FORWARD_SIZE)
_LAYERS_PER_SHARD = 4
_NUM_HEADS = 16

Tensors = dict[str, npt.NDArray[np.float16]]


def write_folder(path: Path, num_layers: int) -> Path:
    """``num_layers`` layers of ``LAYER_BYTES``, the embeddings, and a tokenizer. The folder must be there."""
    config = {
        "model_type": "llama",
        "vocab_size": VOCAB_SIZE,
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": FEED_FORWARD_SIZE,
        "num_hidden_layers": num_layers,
        "num_attention_heads": _NUM_HEADS,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
    }
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer.json").write_text(json.dumps(_tokenizer()))
    places: dict[str, str] = {}
    for index, tensors in enumerate(_shards(num_layers), start=1):
        name = f"model-{index:05}.safetensors"
        save_file(tensors, path / name)
        places |= dict.fromkeys(tensors, name)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return path


def _shards(num_layers: int) -> Iterator[Tensors]:
    # One block of random numbers at changing places: a gigabyte of them would take longer than all that is measured.
    noise = np.random.default_rng(0).normal(0, HIDDEN_SIZE**-0.5, 1 << 22).astype(np.float16)

    def matrix(num_outputs: int, num_inputs: int) -> npt.NDArray[np.float16]:
        return np.resize(np.roll(noise, num_outputs), (num_outputs, num_inputs))

    ones = np.ones(HIDDEN_SIZE, np.float16)
    yield {"model.embed_tokens.weight": matrix(VOCAB_SIZE, HIDDEN_SIZE), "model.norm.weight": ones}
    for first in range(0, num_layers, _LAYERS_PER_SHARD):
        shard: Tensors = {}
        for layer in range(first, min(first + _LAYERS_PER_SHARD, num_layers)):
            prefix = f"model.layers.{layer}"
            for part in "qkvo":
                shard[f"{prefix}.self_attn.{part}_proj.weight"] = matrix(HIDDEN_SIZE, HIDDEN_SIZE)
            for part in ("gate", "up"):
                shard[f"{prefix}.mlp.{part}_proj.weight"] = matrix(FEED_FORWARD_SIZE, HIDDEN_SIZE)
            shard[f"{prefix}.mlp.down_proj.weight"] = matrix(HIDDEN_SIZE, FEED_FORWARD_SIZE)
            for part in ("input", "post_attention"):
                shard[f"{prefix}.{part}_layernorm.weight"] = ones
        yield shard


def _tokenizer() -> dict[str, object]:
    """Bytes, and as many tokens more as the embeddings have: each is printed, and none is ever merged from bytes."""
    vocab = {char: byte for byte, char in byte_alphabet().items()}
    vocab |= {f"token{i}": i for i in range(len(vocab), VOCAB_SIZE)}
    return {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }
