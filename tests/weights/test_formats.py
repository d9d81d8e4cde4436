"""Dequantisation equals the ``gguf`` package bit for bit."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import pytest
from gguf import quants
from tests.weights.blocks import HALF_OFFSETS, ZERO_POINT_TYPES, quantize, random_bytes
from tests.weights.gguf_writer import TENSOR_TYPE_TAGS

from lepton_ai.errors import InvalidModel
from lepton_ai.weights.formats import WeightType, dequantize

ALL_TYPES = list(TENSOR_TYPE_TAGS)
BLOCK_TYPES = list(HALF_OFFSETS)


def _theirs(data: bytes, weight_type: WeightType, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    raw = np.frombuffer(data, np.uint8)
    if weight_type in (WeightType.F32, WeightType.F16):
        raw = raw.view("<f4" if weight_type is WeightType.F32 else "<f2")
    else:
        raw = raw.reshape(-1, weight_type.block_bytes)
    values = quants.dequantize(raw, gguf.GGMLQuantizationType[weight_type.value])
    return np.asarray(values, np.float32).reshape(shape)


def _assert_same_bits(data: bytes, weight_type: WeightType, shape: tuple[int, ...]) -> None:
    ours = dequantize(np.frombuffer(data, np.uint8), weight_type, shape)
    assert ours.shape == shape and ours.dtype == np.float32
    np.testing.assert_array_equal(ours.view(np.uint32), _theirs(data, weight_type, shape).view(np.uint32))


@pytest.mark.parametrize("weight_type", ALL_TYPES)
def test_geometry_is_that_of_ggml(weight_type: WeightType) -> None:
    tag = gguf.GGMLQuantizationType[weight_type.value]
    assert (weight_type.block_elements, weight_type.block_bytes) == gguf.GGML_QUANT_SIZES[tag]
    assert TENSOR_TYPE_TAGS[weight_type] == tag
    assert weight_type.bits <= weight_type.bits_per_weight < weight_type.bits + 1.1
    assert WeightType(weight_type.value) is weight_type


@pytest.mark.parametrize("weight_type", ALL_TYPES)
def test_random_blocks(weight_type: WeightType) -> None:
    shape = (37, 3, 2 * weight_type.block_elements)
    _assert_same_bits(random_bytes(weight_type, shape, np.random.default_rng(1)), weight_type, shape)


@pytest.mark.parametrize("weight_type", BLOCK_TYPES)
def test_every_finite_scale(weight_type: WeightType) -> None:
    """All f16 bit patterns but infinities and NaNs: signed zeros and subnormals among them."""
    patterns = np.arange(1 << 16, dtype="<u2")
    finite = patterns[(patterns & 0x7C00) != 0x7C00].reshape(-1, 1)
    rng = np.random.default_rng(2)
    blocks = rng.integers(0, 256, (len(finite), weight_type.block_bytes), np.uint8)
    for offset in HALF_OFFSETS[weight_type]:
        blocks[:, offset : offset + 2] = rng.permutation(finite).view(np.uint8)
    _assert_same_bits(blocks.tobytes(), weight_type, (len(finite), weight_type.block_elements))


@pytest.mark.parametrize("weight_type", BLOCK_TYPES)
def test_infinite_and_nan_scales_give_values_and_no_warning(weight_type: WeightType) -> None:
    blocks = np.full((2, weight_type.block_bytes), 0x55, np.uint8)
    blocks[0, HALF_OFFSETS[weight_type][0] + 1] = 0x7C
    blocks[1, HALF_OFFSETS[weight_type][0] + 1] = 0x7E
    values = dequantize(blocks, weight_type, (2, weight_type.block_elements))
    assert np.isnan(values[1]).all()


def test_longer_than_one_chunk() -> None:
    shape = (1031, 160)
    _assert_same_bits(random_bytes(WeightType.Q4_1, shape, np.random.default_rng(3)), WeightType.Q4_1, shape)


def test_a_scalar_and_an_unaligned_view() -> None:
    raw = np.frombuffer(b"\0" + np.float32(1.5).tobytes(), np.uint8)[1:]
    assert dequantize(raw, WeightType.F32, ()) == np.float32(1.5)


def test_rows_must_be_whole_blocks() -> None:
    with pytest.raises(InvalidModel, match="Q4_K: rows of 288 elements are not whole blocks of 256"):
        WeightType.Q4_K.num_bytes((8, 288))


def test_bytes_must_fit_the_shape() -> None:
    with pytest.raises(InvalidModel, match=r"Q8_0 \(2, 32\): expected 68 bytes, got 34"):
        dequantize(np.zeros(34, np.uint8), WeightType.Q8_0, (2, 32))


@pytest.mark.parametrize("weight_type", [WeightType.Q8_0, WeightType.Q4_0])
def test_the_quantisers_of_the_tests_equal_the_reference(weight_type: WeightType) -> None:
    values = np.random.default_rng(4).standard_normal((64, 96)).astype(np.float32)
    values[3] = 0
    theirs = quants.quantize(values, gguf.GGMLQuantizationType[weight_type.value])
    assert quantize(values, weight_type) == np.asarray(theirs).tobytes()


def test_quantised_values_come_back_close() -> None:
    values = np.random.default_rng(5).standard_normal((16, 64)).astype(np.float32)
    for weight_type, step in [(WeightType.F16, 1e-3), (WeightType.Q8_0, 0.02), (WeightType.Q4_0, 0.3)]:
        stored = np.frombuffer(quantize(values, weight_type), np.uint8)
        assert np.abs(dequantize(stored, weight_type, values.shape) - values).max() < step * np.abs(values).max()


def test_tensors_of_a_real_model(smollm2_path: Path) -> None:
    from lepton_ai.weights.gguf import GGUFFile

    with GGUFFile(smollm2_path) as model:
        for name in ("blk.0.attn_q.weight", "blk.29.ffn_down.weight", "output_norm.weight", "token_embd.weight"):
            tensor = model.get(name)
            rows = min(tensor.shape[0], 2048)
            shape = (rows, *tensor.shape[1:])
            _assert_same_bits(tensor.data[: tensor.type.num_bytes(shape)].tobytes(), tensor.type, shape)


@pytest.mark.parametrize("weight_type", ZERO_POINT_TYPES)
def test_integers_with_zero_points(weight_type: WeightType) -> None:
    """Against the formula in exact arithmetic, with every code and zero point, and scales that were f16 or bf16."""
    size, bits = weight_type.block_elements, weight_type.bits
    rng, middle = np.random.default_rng(4), 1 << (bits - 1)
    codes = rng.integers(0, 1 << bits, (600, size))
    zeros = np.arange(600) % 256 - 128
    scales = rng.standard_normal(600).astype(np.float16).astype(np.float32)
    scales[300:] = (rng.standard_normal(300).astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(
        np.float32
    )
    octets = (codes if bits == 8 else codes[:, ::2] | codes[:, 1::2] << 4).astype(np.uint8)
    parts = scales.view(np.uint8).reshape(-1, 4), zeros.astype(np.int8).view(np.uint8)[:, None], octets
    values = dequantize(np.concatenate(parts, axis=1).reshape(-1), weight_type, codes.shape)
    exact = scales[:, None].astype(np.float64) * (codes - middle - zeros[:, None])
    assert weight_type.bits_per_weight == bits + 40 / size
    np.testing.assert_array_equal(values, exact)
