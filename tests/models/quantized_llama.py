"""Tiny Llama checkpoints whose layers are quantised in each way that there is, and the same in f32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tests.weights.quantized_layers import (
    Layer,
    Tensors,
    awq,
    gptq,
    int_quantized,
    pack_quantized,
    random_layer,
    write_checkpoint,
)

CONFIG: Mapping[str, object] = {
    "model_type": "llama",
    "vocab_size": 50,
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}
PROJECTIONS: Mapping[str, tuple[int, int]] = {
    "self_attn.q_proj": (128, 128),
    "self_attn.k_proj": (64, 128),
    "self_attn.v_proj": (64, 128),
    "self_attn.o_proj": (128, 128),
    "mlp.gate_proj": (192, 128),
    "mlp.up_proj": (192, 128),
    "mlp.down_proj": (128, 192),
}


@dataclass(frozen=True)
class Method:
    """What a ``config.json`` says, how a layer is written, and what ``random_layer`` makes of it."""

    config: Mapping[str, object]
    write: Callable[[Layer], Tensors]
    layer: Mapping[str, Any] = field(default_factory=dict)


def gptq_config(**changes: object) -> dict[str, object]:
    """As AutoGPTQ and GPTQModel write it."""
    config = {"bits": 4, "group_size": 64, "desc_act": False, "sym": False, "damp_percent": 0.01, "lm_head": False}
    return {"quant_method": "gptq", "checkpoint_format": "gptq", "pack_dtype": "int32", **config, **changes}


def awq_config(**changes: object) -> dict[str, object]:
    """As AutoAWQ writes it."""
    config = {"bits": 4, "group_size": 32, "zero_point": True, "version": "gemm", "modules_to_not_convert": None}
    return {"quant_method": "awq", **config, **changes}


def compressed_config(
    stored: str = "pack-quantized", activations: object = None, **changes: object
) -> dict[str, object]:
    """As LLM Compressor writes it; ``changes`` are those of how weights are quantised."""
    values = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 64, "dynamic": False}
    unused: dict[str, object] = {"actorder": None, "block_structure": None, "observer": "minmax", "observer_kwargs": {}}
    weights = {**values, **unused, **changes}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations, "output_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "format": stored,
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
        "quantization_status": "compressed",
        "global_compression_ratio": 1.2,
        "sparsity_config": {"format": "dense", "sparsity_structure": "unstructured"},
        "transform_config": {},
        "version": "0.10",
    }


ACTIVATIONS: Mapping[str, object] = {
    "num_bits": 8,
    "type": "int",
    "symmetric": True,
    "strategy": "token",
    "dynamic": True,
    "group_size": None,
    "actorder": None,
    "block_structure": None,
    "observer": None,
    "observer_kwargs": {},
}
CHANNEL: Mapping[str, Any] = {"strategy": "channel", "group_size": None}

METHODS: Mapping[str, Method] = {
    "gptq": Method(gptq_config(), gptq, {"group": 64}),
    "gptq-8-bit": Method(
        gptq_config(bits=8, sym=True, group_size=-1), gptq, {"bits": 8, "group": -1, "symmetric": True}
    ),
    "gptq-v2": Method(
        gptq_config(checkpoint_format="gptq_v2", group_size=128, desc_act=True),
        lambda layer: gptq(layer, is_offset=False),
        {"group": 128},
    ),
    "awq": Method(awq_config(), awq),
    "awq-rows": Method(awq_config(group_size=-1), awq, {"group": -1}),
    "packed": Method(
        compressed_config(),
        lambda layer: pack_quantized(layer, symmetric=True),
        {"group": 64, "symmetric": True, "scale_dtype": "BF16"},
    ),
    "packed-asymmetric": Method(
        compressed_config(symmetric=False, actorder="weight"),
        lambda layer: pack_quantized(layer, symmetric=False),
        {"group": 64},
    ),
    "packed-8-bit": Method(
        compressed_config(num_bits=8, **CHANNEL),
        lambda layer: pack_quantized(layer, symmetric=True),
        {"bits": 8, "group": -1, "symmetric": True},
    ),
    "integers": Method(
        compressed_config("int-quantized", ACTIVATIONS, num_bits=8, **CHANNEL),
        lambda layer: int_quantized(layer, symmetric=True),
        {"bits": 8, "group": -1, "symmetric": True, "scale_dtype": "BF16"},
    ),
}


def make_layers(method: Method) -> dict[str, Layer]:
    """Every quantised layer by name."""
    names = {f"model.layers.{i}.{name}": shape for i in range(2) for name, shape in PROJECTIONS.items()}
    return {name: random_layer(*shape, seed=seed, **method.layer) for seed, (name, shape) in enumerate(names.items())}


def plain_tensors() -> Tensors:
    """What no method quantises: embeddings, norms and the head."""
    rng = np.random.default_rng(99)
    norms = ("model.norm", *(f"model.layers.{i}.{n}_layernorm" for i in range(2) for n in ("input", "post_attention")))
    tables = {name: rng.standard_normal((50, 128)) for name in ("model.embed_tokens", "lm_head")}
    tensors = {**tables, **{name: rng.normal(1, 0.1, 128) for name in norms}}
    return {f"{name}.weight": ("F16", values.astype(np.float16)) for name, values in tensors.items()}


def quantized_folder(path: Path, method: Method, config: Mapping[str, object] | None = None) -> Path:
    """The checkpoint as ``method`` has it; ``config`` in place of what it says."""
    tensors = plain_tensors()
    for name, layer in make_layers(method).items():
        tensors |= {f"{name}.{ending}": tensor for ending, tensor in method.write(layer).items()}
    said = {**CONFIG, "quantization_config": dict(method.config if config is None else config)}
    return write_checkpoint(path, said, tensors)


def f32_folder(path: Path, method: Method) -> Path:
    """The same model with its layers in f32."""
    layers = {f"{name}.weight": ("F32", layer.values()) for name, layer in make_layers(method).items()}
    return write_checkpoint(path, CONFIG, {**plain_tensors(), **layers})
