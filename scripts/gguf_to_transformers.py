"""A GGUF file as a ``transformers`` model with the same weights, dequantised by the ``gguf`` package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import MethodType

import gguf
import numpy as np
import numpy.typing as npt
import torch
import transformers
from transformers.models.llama import modeling_llama
from transformers.models.qwen2 import modeling_qwen2

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
_NORMS = (modeling_llama.LlamaRMSNorm, modeling_qwen2.Qwen2RMSNorm)
_ROTARIES = (modeling_llama.LlamaRotaryEmbedding, modeling_qwen2.Qwen2RotaryEmbedding)


def load_model(path: Path, dtype: torch.dtype) -> transformers.PreTrainedModel:
    """The model in ``dtype``. In f64 every operation is f64, those that ``transformers`` does in f32 included.

    Raises ValueError for an architecture other than llama and qwen2, RuntimeError for tensors missing or left over.
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
        _widen(model)
    return model.eval().requires_grad_(False)


def _config(reader: gguf.GGUFReader) -> transformers.PreTrainedConfig:
    def value(key: str) -> int | float | str:
        result: int | float | str = reader.fields[key].contents()
        return result

    architecture = value("general.architecture")
    kinds = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config}
    if architecture not in kinds:
        raise ValueError(f"{architecture}: expected the architecture llama or qwen2")
    names = {tensor.name: tensor for tensor in reader.tensors}
    return kinds[str(architecture)](
        vocab_size=int(names["token_embd.weight"].shape[1]),
        hidden_size=value(f"{architecture}.embedding_length"),
        intermediate_size=value(f"{architecture}.feed_forward_length"),
        num_hidden_layers=value(f"{architecture}.block_count"),
        num_attention_heads=value(f"{architecture}.attention.head_count"),
        num_key_value_heads=value(f"{architecture}.attention.head_count_kv"),
        max_position_embeddings=value(f"{architecture}.context_length"),
        rms_norm_eps=value(f"{architecture}.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": value(f"{architecture}.rope.freq_base")},
        tie_word_embeddings="output.weight" not in names,
    )


def _tensors(
    reader: gguf.GGUFReader, config: transformers.PreTrainedConfig
) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    is_permuted = config.model_type == "llama"
    num_heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        match = _LAYER_NAME.fullmatch(tensor.name)
        if match is None:
            yield _TENSORS[tensor.name], values
            continue
        layer, part, kind = match.groups()
        if is_permuted and part in num_heads:
            values = _unpermute(values, num_heads[part])
        yield f"model.layers.{layer}.{_LAYER_PARTS[part]}.{kind}", values


def _unpermute(values: npt.NDArray[np.float32], num_heads: int) -> npt.NDArray[np.float32]:
    """Rows in the order of ``transformers``: GGUF pairs neighbours for the rotation, ``transformers`` pairs halves."""
    paired = values.reshape(num_heads, -1, 2, *values.shape[1:])
    return np.ascontiguousarray(paired.swapaxes(1, 2)).reshape(values.shape)


def _widen(model: torch.nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, _NORMS):
            module.forward = MethodType(_rms_norm, module)
        elif isinstance(module, _ROTARIES):
            module.forward = MethodType(_rotary, module)


def _rms_norm(module: torch.nn.Module, hidden_states: torch.Tensor) -> torch.Tensor:
    variance = hidden_states.pow(2).mean(-1, keepdim=True)
    return module.weight * (hidden_states * torch.rsqrt(variance + module.variance_epsilon))


def _rotary(module: torch.nn.Module, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The frequencies are the model's own, in f32; angles, cosines and sines are f64."""
    angles = position_ids[..., None].double() * module.inv_freq.double()
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(x.dtype), angles.sin().to(x.dtype)
