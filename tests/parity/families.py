"""Families on small random checkpoints: what ``transformers`` computed of them is a golden, the weights are made anew.

Everything here runs in the product's environment and in that of ``transformers`` alike. Weights are scaled so that
attention is peaked and the first norm's epsilon counts: a change of one per cent of any constant must show.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

FOLDER = Path(__file__).parent / "golden" / "families"
NUM_TOKENS = 96
VOCAB_SIZE = 80

Config = Mapping[str, object]
Shapes = Mapping[str, Sequence[int]]
F32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Case:
    """A ``config.json``, and changes of it that must show in the outputs: the keys to replace, by what is changed.

    ``head`` is an encoder's; None stands for the logits of a decoder.
    """

    name: str
    config: Config
    changes: Mapping[str, Config] = field(default_factory=dict)
    head: Literal["hidden_states", "class_logits"] | None = None


_SMALL: Config = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
_EPS: Mapping[str, Config] = {"eps": {"rms_norm_eps": 1.01e-5}}
_LLAMA3: Config = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN: Config = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}

_GPT2: Config = {
    "model_type": "gpt2",
    "vocab_size": VOCAB_SIZE,
    "n_positions": 128,
    "n_embd": 64,
    "n_layer": 3,
    "n_head": 4,
    "layer_norm_epsilon": 1e-5,
    "activation_function": "gelu_new",
}
_GEMMA3: Config = {
    "model_type": "gemma3_text",
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-3,
    "query_pre_attn_scalar": 32,
    "rope_theta": 1e4,
    "rope_local_base_freq": 100.0,
    "sliding_window": 20,
    "sliding_window_pattern": 3,
}
_ENCODER: Config = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "hidden_act": "gelu",
    "max_position_embeddings": 128,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,  # as MPNet has it; ids of padding are not drawn
}
_LAYER_NORM_EPS: Mapping[str, Config] = {"eps": {"layer_norm_eps": 1.01e-5}}
_LABELS: Config = {"id2label": {"0": "good", "1": "bad", "2": "neither"}}

CASES = (
    Case(
        "llama",
        {"model_type": "llama", **_SMALL, "rope_theta": 10000.0},
        {**_EPS, "theta": {"rope_theta": 10100.0}},
    ),
    Case(
        "llama-head-dim",
        {
            "model_type": "llama",
            **_SMALL,
            "head_dim": 32,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
        },
        {"theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 5.05e5}}},
    ),
    Case(
        "llama3-scaling",
        {"model_type": "llama", **_SMALL, "rope_theta": 500.0, "rope_scaling": _LLAMA3},
        {
            "factor": {"rope_scaling": {**_LLAMA3, "factor": 8.08}},
            "low": {"rope_scaling": {**_LLAMA3, "low_freq_factor": 1.01}},
            "high": {"rope_scaling": {**_LLAMA3, "high_freq_factor": 4.04}},
        },
    ),
    Case(
        "linear-scaling",
        {"model_type": "llama", **_SMALL, "rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
        {"factor": {"rope_scaling": {"type": "linear", "factor": 2.02}}},
    ),
    Case(
        "yarn-scaling",
        {"model_type": "qwen2", **_SMALL, "rope_theta": 10000.0, "rope_scaling": _YARN},
        {
            "factor": {"rope_scaling": {**_YARN, "factor": 4.04}},
            "scale": {"rope_scaling": {**_YARN, "attention_factor": 1.15}},
            "beta": {"rope_scaling": {**_YARN, "beta_fast": 2.0}},
        },
    ),
    Case(
        "mistral",
        {"model_type": "mistral", **_SMALL, "rope_theta": 10000.0, "sliding_window": 20},
        {**_EPS, "window": {"sliding_window": 21}, "no window": {"sliding_window": None}},
    ),
    Case(
        "qwen2",
        {"model_type": "qwen2", **_SMALL, "rope_theta": 10000.0, "tie_word_embeddings": True},
        {**_EPS, "theta": {"rope_theta": 10100.0}},
    ),
    Case(
        "qwen2-windows",
        {
            "model_type": "qwen2",
            **_SMALL,
            "rope_theta": 10000.0,
            "use_sliding_window": True,
            "sliding_window": 20,
            "max_window_layers": 1,
        },
        {"window": {"sliding_window": 21}, "layers": {"max_window_layers": 2}},
    ),
    Case(
        "qwen3",
        {"model_type": "qwen3", **_SMALL, "head_dim": 32, "rope_theta": 10000.0, "attention_bias": False},
        {**_EPS, "theta": {"rope_theta": 10100.0}},
    ),
    Case(
        "olmo2",
        {"model_type": "olmo2", **_SMALL, "rope_theta": 10000.0, "attention_bias": False},
        {**_EPS, "theta": {"rope_theta": 10100.0}},
    ),
    Case(
        "gpt2",
        _GPT2,
        {"eps": {"layer_norm_epsilon": 1.01e-5}},
    ),
    Case(
        "gemma3",
        _GEMMA3,
        {
            "eps": {"rms_norm_eps": 1.01e-3},
            "theta": {"rope_theta": 1.01e4},
            "local theta": {"rope_local_base_freq": 101.0},
            "scale": {"query_pre_attn_scalar": 32.32},
            "window": {"sliding_window": 21},
            "layers": {"sliding_window_pattern": 2},
        },
    ),
    Case(
        "bert",
        {"model_type": "bert", **_ENCODER, "type_vocab_size": 2},
        {**_LAYER_NORM_EPS, "activation": {"hidden_act": "gelu_new"}},
        "hidden_states",
    ),
    Case(
        "bert-classifier",
        {"model_type": "bert", **_ENCODER, **_LABELS, "architectures": ["BertForSequenceClassification"]},
        _LAYER_NORM_EPS,
        "class_logits",
    ),
    Case(
        "bert-token-classifier",
        {"model_type": "bert", **_ENCODER, **_LABELS, "architectures": ["BertForTokenClassification"]},
        _LAYER_NORM_EPS,
        "class_logits",
    ),
    Case(
        "mpnet",
        {"model_type": "mpnet", **_ENCODER, "relative_attention_num_buckets": 32},
        _LAYER_NORM_EPS,
        "hidden_states",
    ),
    Case(
        "mpnet-classifier",
        {"model_type": "mpnet", **_ENCODER, **_LABELS, "architectures": ["MPNetForSequenceClassification"]},
        _LAYER_NORM_EPS,
        "class_logits",
    ),
)


def token_ids(case: Case, num_tokens: int = NUM_TOKENS) -> npt.NDArray[np.int32]:
    """The tokens that are run, the same for every run of a case."""
    first = 0 if case.head is None else 2  # an encoder's positions depend on which tokens are padding
    vocab_size = case.config["vocab_size"]
    assert isinstance(vocab_size, int)
    return _generator(case.name, "ids").integers(first, vocab_size, num_tokens).astype(np.int32)


def token_type_ids(case: Case, num_tokens: int = NUM_TOKENS) -> npt.NDArray[np.int32] | None:
    """Two texts, where the model knows of types."""
    if case.config["model_type"] != "bert":
        return None
    return (np.arange(num_tokens) >= num_tokens // 3).astype(np.int32)


def random_weights(name: str, shapes: Shapes) -> dict[str, F32Array]:
    """The weights of a case, for tensors of these names and shapes."""
    return {tensor: _values(_generator(name, tensor), tensor, tuple(shape)) for tensor, shape in shapes.items()}


def _generator(name: str, what: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(f"{name} {what}".encode()))


def _values(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> F32Array:
    if len(shape) == 1:
        is_norm = name.endswith("weight") and any(part in name for part in ("norm", "Norm", "ln_"))
        return rng.normal(1.0 if is_norm else 0.0, 0.1, shape).astype(np.float32)
    if any(part in name for part in ("embed_tokens", "wte", "wpe", "_embeddings")):
        return rng.normal(0, 0.004, shape).astype(np.float32)
    gain = (
        2.0 if any(part in name for part in ("q_proj", "k_proj", "c_attn", "query", "key", "attn.q", "attn.k")) else 1.0
    )
    num_inputs = shape[0] if ".c_" in name else shape[-1]
    return rng.normal(0, gain / np.sqrt(num_inputs), shape).astype(np.float32)


@dataclass(frozen=True, slots=True)
class FamilyGolden:
    """What ``transformers`` says: logits ``[T, V]``, or what an encoder's head gives, in f64; and the error of its f32,
    root mean square.
    """

    shapes: Shapes
    outputs: npt.NDArray[np.float64]
    f32_error: float


def read_golden(name: str, folder: Path = FOLDER) -> FamilyGolden:
    """The golden of a case."""
    with np.load(folder / f"{name}.npz") as file:
        shapes = json.loads(bytes(file["shapes"]))
        return FamilyGolden(shapes, file["outputs"], float(file["f32_error"]))


def write_golden(name: str, golden: FamilyGolden, folder: Path = FOLDER) -> None:
    """Keep the golden of a case."""
    shapes = np.frombuffer(json.dumps(golden.shapes).encode(), np.uint8)
    np.savez_compressed(folder / f"{name}.npz", shapes=shapes, outputs=golden.outputs, f32_error=golden.f32_error)
