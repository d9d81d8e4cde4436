"""Small random checkpoints in the layout in which models are published: names, buffers, heads and tokenizer files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

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


BERT_WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "man",
    "plays",
    "the",
    "guitar",
    ".",
    "##s",
    "?",
    "who",
)
BERT_CONTEXT = 48
BERT_HIDDEN = 32


def published_bert(*, seed: int = 0, head: str = "ForPreTraining", labels: int = 0) -> dict[str, bytes]:
    """BERT as its repository has it: a prefix, norms of old names, a buffer of positions, the heads of pre-training.

    Another ``head`` takes their place, with a row for each of ``labels``: ForSequenceClassification or
    ForTokenClassification.
    """
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = {}

    def dense(name: str, num_outputs: int, num_inputs: int = BERT_HIDDEN) -> None:
        tensors[f"{name}.weight"] = rng.normal(0, 0.3, (num_outputs, num_inputs)).astype(np.float32)
        tensors[f"{name}.bias"] = rng.normal(0, 0.1, num_outputs).astype(np.float32)

    def norm(name: str) -> None:
        tensors[f"{name}.gamma"] = rng.normal(1, 0.1, BERT_HIDDEN).astype(np.float32)
        tensors[f"{name}.beta"] = rng.normal(0, 0.1, BERT_HIDDEN).astype(np.float32)

    for table, size in (("word", len(BERT_WORDS)), ("position", BERT_CONTEXT), ("token_type", 2)):
        values = rng.normal(0, 0.3, (size, BERT_HIDDEN)).astype(np.float32)
        tensors[f"bert.embeddings.{table}_embeddings.weight"] = values
    norm("bert.embeddings.LayerNorm")
    for layer in range(2):
        block = f"bert.encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            dense(f"{block}.attention.{part}", BERT_HIDDEN)
        norm(f"{block}.attention.output.LayerNorm")
        dense(f"{block}.intermediate.dense", 2 * BERT_HIDDEN)
        dense(f"{block}.output.dense", BERT_HIDDEN, 2 * BERT_HIDDEN)
        norm(f"{block}.output.LayerNorm")
    if head != "ForTokenClassification":
        dense("bert.pooler.dense", BERT_HIDDEN)
    if labels:
        dense("classifier", labels)
    else:
        dense("cls.predictions.transform.dense", BERT_HIDDEN)
        norm("cls.predictions.transform.LayerNorm")
        tensors["cls.predictions.bias"] = np.zeros(len(BERT_WORDS), np.float32)
        dense("cls.seq_relationship", 2)
    config = {**_BERT_CONFIG, "architectures": [f"Bert{head}"]}
    if labels:
        config["id2label"] = {str(i): f"class {i}" for i in range(labels)}
    return {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": save(tensors, metadata={"format": "pt"}),
        "vocab.txt": "\n".join(BERT_WORDS).encode(),
        "tokenizer_config.json": b'{"do_lower_case": true}',
        "pytorch_model.bin": b"\x80\x02",
    }


_BERT_CONFIG = {
    "model_type": "bert",
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": BERT_HIDDEN,
    "initializer_range": 0.02,
    "intermediate_size": 2 * BERT_HIDDEN,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": BERT_CONTEXT,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "use_cache": True,
    "vocab_size": len(BERT_WORDS),
}

SENTENCE_FILES = {
    "modules.json": json.dumps(
        [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ]
    ).encode(),
    "1_Pooling/config.json": b'{"word_embedding_dimension": 32, "pooling_mode_mean_tokens": true}',
    "sentence_bert_config.json": b'{"max_seq_length": 24, "do_lower_case": false}',
}
"""What the sentence-transformers library adds: the mean of the tokens, scaled to length 1, of texts up to 24 tokens."""


def write_files(path: Path, files: Mapping[str, bytes]) -> Path:
    """A folder with these files."""
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path
