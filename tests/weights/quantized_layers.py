"""Quantised layers as other libraries write them, packed integer by integer, and what they stand for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.weights.safetensors_writer import encode_safetensors

from lepton_ai.weights.layer_tensors import LayerTensors
from lepton_ai.weights.safetensors import RawTensor

Array = npt.NDArray[Any]
Tensors = dict[str, tuple[str, Array]]
"""Type, as safetensors name it, and elements of each tensor; those of BF16 are their bits."""

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


@dataclass(frozen=True)
class Layer:
    """Unsigned ``codes`` ``[outputs, inputs]``, and unsigned ``zeros`` and ``scales`` ``[outputs, groups]``."""

    bits: int
    group: int
    codes: Array
    zeros: Array
    scales: Array
    scale_dtype: str = "F16"

    def values(self) -> npt.NDArray[np.float32]:
        """``scale * (code - zero)``, which is exact in f64."""
        groups = np.arange(self.codes.shape[1]) // self.group
        exact = self.scales[:, groups].astype(np.float64) * (self.codes.astype(np.int64) - self.zeros[:, groups])
        return exact.astype(np.float32)

    def scale_tensor(self, values: Array) -> tuple[str, Array]:
        """Scales in their own type."""
        if self.scale_dtype == "BF16":
            return "BF16", (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)
        return self.scale_dtype, values.astype(np.float16 if self.scale_dtype == "F16" else np.float32)


def random_layer(
    num_outputs: int,
    num_inputs: int,
    *,
    bits: int = 4,
    group: int = 32,
    symmetric: bool = False,
    scale_dtype: str = "F16",
    seed: int = 0,
) -> Layer:
    """A layer in which every code occurs. ``group`` is that of a row where it is -1."""
    rng = np.random.default_rng(seed)
    group = num_inputs if group == -1 else group
    num_groups = -(-num_inputs // group)
    codes = rng.integers(0, 1 << bits, (num_outputs, num_inputs))
    zeros = rng.integers(0, 1 << bits, (num_outputs, num_groups))
    scales = (rng.uniform(0.5, 2, zeros.shape) / 2**bits / np.sqrt(num_inputs)).astype(np.float32)
    if scale_dtype == "F16":
        scales = scales.astype(np.float16).astype(np.float32)
    elif scale_dtype == "BF16":
        scales = (scales.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    if symmetric:
        zeros = np.full_like(zeros, 1 << (bits - 1))
    return Layer(bits, group, codes, zeros, scales, scale_dtype)


def pack(integers: Array, bits: int) -> Array:
    """``[rows, n]`` -> words ``[rows, n * bits / 32]``, the first integer in the lowest bits."""
    per_word = 32 // bits
    words = np.zeros((len(integers), -(-integers.shape[1] // per_word)), np.uint64)
    for column in range(integers.shape[1]):
        words[:, column // per_word] |= integers[:, column].astype(np.uint64) << np.uint64(bits * (column % per_word))
    return words.astype(np.uint32).view(np.int32)


def gptq(layer: Layer, *, is_offset: bool = True) -> Tensors:
    """The tensors of format ``gptq``, or of ``gptq_v2`` unless ``is_offset``."""
    qzeros = pack(layer.zeros.T, layer.bits).view(np.uint32)
    if is_offset:
        qzeros = qzeros - np.uint32(sum(1 << shift for shift in range(0, 32, layer.bits)))
    return {
        "qweight": ("I32", np.ascontiguousarray(pack(layer.codes, layer.bits).T)),
        "qzeros": ("I32", qzeros.view(np.int32)),
        "scales": layer.scale_tensor(layer.scales.T),
        "g_idx": ("I32", (np.arange(layer.codes.shape[1]) // layer.group).astype(np.int32)),
    }


def awq(layer: Layer) -> Tensors:
    """The tensors of AWQ's version ``gemm``."""

    def interleaved(integers: Array) -> Array:
        return pack(integers.reshape(len(integers), -1, 8)[..., AWQ_ORDER].reshape(integers.shape), 4)

    return {
        "qweight": ("I32", interleaved(layer.codes.T)),
        "qzeros": ("I32", interleaved(layer.zeros.T)),
        "scales": layer.scale_tensor(layer.scales.T),
    }


def pack_quantized(layer: Layer, *, symmetric: bool) -> Tensors:
    """The tensors of compressed-tensors' ``pack-quantized``."""
    tensors: Tensors = {
        "weight_packed": ("I32", pack(layer.codes, layer.bits)),
        "weight_scale": layer.scale_tensor(layer.scales),
        "weight_shape": ("I64", np.array(layer.codes.shape, np.int64)),
    }
    if not symmetric:
        tensors["weight_zero_point"] = ("I32", np.ascontiguousarray(pack(layer.zeros.T, layer.bits).T))
    return tensors


def int_quantized(layer: Layer, *, symmetric: bool) -> Tensors:
    """The tensors of compressed-tensors' ``int-quantized``."""
    tensors: Tensors = {
        "weight": ("I8", (layer.codes - 128).astype(np.int8)),
        "weight_scale": layer.scale_tensor(layer.scales),
    }
    if not symmetric:
        tensors["weight_zero_point"] = ("I8", (layer.zeros - 128).astype(np.int8))
    return tensors


def layer_tensors(tensors: Mapping[str, tuple[str, Array]], name: str = "layer") -> LayerTensors:
    """The same in memory."""
    raw = {
        ending: RawTensor(
            f"{name}.{ending}", array.shape, dtype, np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        )
        for ending, (dtype, array) in tensors.items()
    }
    return LayerTensors(name, raw)


def write_checkpoint(folder: Path, config: Mapping[str, object], tensors: Mapping[str, tuple[str, Array]]) -> Path:
    """A folder with ``config.json`` and ``model.safetensors``."""
    header: dict[str, object] = {}
    payload = b""
    for name, (dtype, array) in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [len(payload), len(payload) + len(raw)],
        }
        payload += raw
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(encode_safetensors(header, payload))
    return folder
