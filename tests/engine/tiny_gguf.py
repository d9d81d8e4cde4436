"""A GGUF file of a random Llama-type chat model with a byte vocabulary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tests.weights.gguf_writer import Tensor, Value, write_gguf

from lepton_ai.models.family import as_decoder
from lepton_ai.models.registry import load_model
from lepton_ai.text.byte_level import byte_alphabet
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.gguf import GGUFFile

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VOCAB_SIZE = 256 + len(CONTROL)
CONTEXT_LENGTH = 256
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_gguf(
    path: Path,
    *,
    seed: int = 0,
    has_template: bool = True,
    window: int | None = None,
    template: str = TEMPLATE,
    context_length: int = CONTEXT_LENGTH,
) -> Path:
    """Write the file. Id ``b`` is byte ``b``; the control tokens follow. The first of two layers has the ``window``."""
    alphabet = byte_alphabet()
    metadata: dict[str, Value] = {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.context_length": context_length,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 96,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": [*(alphabet[b] for b in range(256)), *CONTROL],
        "tokenizer.ggml.token_type": [1] * 256 + [3] * len(CONTROL),
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.eos_token_id": 258,
        "tokenizer.ggml.bos_token_id": 257,
        "tokenizer.ggml.add_bos_token": False,
    }
    if window is not None:
        metadata["llama.attention.sliding_window"] = window
        metadata["llama.attention.sliding_window_pattern"] = [True, False]
    if has_template:
        metadata["tokenizer.chat_template"] = template
    embedding = _tensor((VOCAB_SIZE, 64), np.random.default_rng(seed))
    write_gguf(path, metadata, {"token_embd.weight": embedding})
    with GGUFFile(path) as file:
        weights = as_decoder(load_model(file.metadata, file)).build(head="logits").weights()
    rng = np.random.default_rng(seed)
    write_gguf(path, metadata, {w.name: _tensor(w.shape, rng) for w in weights})
    return path


def _tensor(shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    """A matrix of about unit gain, or a norm near 1."""
    centre, spread = (0.0, 2.0 / np.sqrt(shape[1])) if len(shape) == 2 else (1.0, 0.1)
    values = rng.normal(centre, spread, shape)
    return WeightType.F32, shape, values.astype("<f4").tobytes()
