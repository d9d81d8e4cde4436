"""A GGUF file as a ``transformers`` model with the same weights, dequantised by the ``gguf`` package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import torch
import transformers
from scripts.widen import widen

_TENSORS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_LAYER_NAME = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
_GEMMA_PARTS = {
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_GEMMA_LOCAL_THETA = 10_000.0  # no file says it


def load_model(path: Path, dtype: torch.dtype) -> transformers.PreTrainedModel:
    """The model in ``dtype``. In f64 every operation is f64, those that ``transformers`` does in f32 included.

    Raises ValueError for an architecture other than llama, qwen2 and gemma3, RuntimeError for tensors missing or left
    over.
    """
    reader = gguf.GGUFReader(path)
    config = _config(reader)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    tensors = {name: torch.from_numpy(values).to(dtype) for name, values in _tensors(reader, config)}
    if config.tie_word_embeddings:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    model.load_state_dict(tensors, strict=True, assign=True)
    model.tie_weights()
    if dtype is torch.float64:
        widen(model)
    return model.eval().requires_grad_(False)


def _config(reader: gguf.GGUFReader) -> transformers.PreTrainedConfig:
    def value(key: str) -> int | float | str:
        result: int | float | str = reader.fields[key].contents()
        return result

    architecture = str(value("general.architecture"))
    names = {tensor.name: tensor for tensor in reader.tensors}
    common = {
        "vocab_size": int(names["token_embd.weight"].shape[1]),
        "hidden_size": value(f"{architecture}.embedding_length"),
        "intermediate_size": value(f"{architecture}.feed_forward_length"),
        "num_hidden_layers": value(f"{architecture}.block_count"),
        "num_attention_heads": value(f"{architecture}.attention.head_count"),
        "num_key_value_heads": value(f"{architecture}.attention.head_count_kv"),
        "max_position_embeddings": value(f"{architecture}.context_length"),
        "rms_norm_eps": value(f"{architecture}.attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": "output.weight" not in names,
    }
    rope = {"rope_type": "default", "rope_theta": value(f"{architecture}.rope.freq_base")}
    match architecture:
        case "llama":
            return transformers.LlamaConfig(**common, rope_parameters=rope)
        case "qwen2":
            return transformers.Qwen2Config(**common, rope_parameters=rope)
        case "gemma3":
            head_dim = value("gemma3.attention.key_length")
            return transformers.Gemma3TextConfig(
                **common,
                head_dim=head_dim,
                query_pre_attn_scalar=head_dim,
                sliding_window=value("gemma3.attention.sliding_window"),
                rope_parameters={
                    "full_attention": rope,
                    "sliding_attention": {"rope_type": "default", "rope_theta": _GEMMA_LOCAL_THETA},
                },
            )
    raise ValueError(f"{architecture}: expected the architecture llama, qwen2 or gemma3")


def _tensors(
    reader: gguf.GGUFReader, config: transformers.PreTrainedConfig
) -> Iterator[tuple[str, npt.NDArray[np.floating]]]:
    is_permuted, is_gemma = config.model_type == "llama", config.model_type == "gemma3_text"
    parts = {**_LAYER_PARTS, **(_GEMMA_PARTS if is_gemma else {})}
    num_heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for tensor in reader.tensors:
        values: npt.NDArray[np.floating] = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if is_gemma and tensor.name.endswith("norm.weight"):
            # GGUF has added the one that `transformers` adds to a norm's weight.
            values = values.astype(np.float64) - 1.0
        match = _LAYER_NAME.fullmatch(tensor.name)
        if match is None:
            yield _TENSORS[tensor.name], values
            continue
        layer, part, kind = match.groups()
        if is_permuted and part in num_heads:
            values = _unpermute(values, num_heads[part])
        yield f"model.layers.{layer}.{parts[part]}.{kind}", values


def _unpermute(values: npt.NDArray[np.floating], num_heads: int) -> npt.NDArray[np.floating]:
    """Rows in the order of ``transformers``: GGUF pairs neighbours for the rotation, ``transformers`` pairs halves."""
    paired = values.reshape(num_heads, -1, 2, *values.shape[1:])
    return np.ascontiguousarray(paired.swapaxes(1, 2)).reshape(values.shape)
