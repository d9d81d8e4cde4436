"""Small random checkpoints in the layout in which models are published: names, buffers, heads and tokenizer files."""

from __future__ import annotations

import json

import numpy as np
from safetensors.numpy import save

from lepton_ai.text.byte_level import byte_alphabet

GPT2_VOCAB_SIZE = 257
GPT2_CONTEXT = 64


def published_gpt2(*, seed: int = 0) -> dict[str, bytes]:
    """GPT-2 as its repository has it: no prefix, a mask buffer in each layer, no head, the old tokenizer files."""
    rng = np.random.default_rng(seed)
    hidden, tensors = 32, {}

    def add(name: str, *shape: int, centre: float = 0.0, spread: float = 0.2) -> None:
        tensors[name] = rng.normal(centre, spread, shape).astype(np.float32)

    add("wte.weight", GPT2_VOCAB_SIZE, hidden)
    add("wpe.weight", GPT2_CONTEXT, hidden)
    for layer in range(2):
        for norm in ("ln_1", "ln_2"):
            add(f"h.{layer}.{norm}.weight", hidden, centre=1.0)
            add(f"h.{layer}.{norm}.bias", hidden)
        sizes = {"attn.c_attn": (hidden, 3 * hidden), "attn.c_proj": (hidden, hidden)}
        sizes |= {"mlp.c_fc": (hidden, 4 * hidden), "mlp.c_proj": (4 * hidden, hidden)}
        for matrix, (num_inputs, num_outputs) in sizes.items():
            add(f"h.{layer}.{matrix}.weight", num_inputs, num_outputs)
            add(f"h.{layer}.{matrix}.bias", num_outputs)
        mask = np.tril(np.ones((GPT2_CONTEXT, GPT2_CONTEXT), np.float32))
        tensors[f"h.{layer}.attn.bias"] = mask.reshape(1, 1, GPT2_CONTEXT, GPT2_CONTEXT)
    add("ln_f.weight", hidden, centre=1.0)
    add("ln_f.bias", hidden)
    vocab = {char: byte for byte, char in byte_alphabet().items()} | {"<|endoftext|>": GPT2_VOCAB_SIZE - 1}
    return {
        "config.json": json.dumps(_GPT2_CONFIG).encode(),
        "generation_config.json": b'{"bos_token_id": 256, "eos_token_id": 256}',
        "model.safetensors": save(tensors, metadata={"format": "pt"}),
        "vocab.json": json.dumps(vocab).encode(),
        "merges.txt": b"#version: 0.2\n",
        "tokenizer_config.json": b'{"model_max_length": 1024}',
        "pytorch_model.bin": b"\x80\x02",
    }


_GPT2_CONFIG = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1,
    "bos_token_id": 256,
    "embd_pdrop": 0.1,
    "eos_token_id": 256,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_ctx": GPT2_CONTEXT,
    "n_embd": 32,
    "n_head": 2,
    "n_layer": 2,
    "n_positions": GPT2_CONTEXT,
    "n_special": 0,
    "predict_special_tokens": True,
    "resid_pdrop": 0.1,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "vocab_size": GPT2_VOCAB_SIZE,
}
