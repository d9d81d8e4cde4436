"""Quantised checkpoints from their folder to logits, and every option that is not supported, refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.models.quantized_llama import (
    ACTIVATIONS,
    METHODS,
    Method,
    awq_config,
    compressed_config,
    f32_folder,
    gptq_config,
    make_layers,
    quantized_folder,
)
from tests.models.tiny import step
from tests.weights.quantized_layers import Array

from lepton_ai.backends.base import Backend
from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.reference.backend import ReferenceBackend
from lepton_ai.config import Limits, Policy
from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.graph.passes.precision import kv_dtype
from lepton_ai.models.family import as_decoder
from lepton_ai.models.hf_quantization import with_layers
from lepton_ai.models.registry import read_model
from lepton_ai.weights.folder import CheckpointFolder
from lepton_ai.weights.formats import dequantize
from lepton_ai.weights.store import check_strict

LIMITS = Limits(max_tokens=32, max_rows=32, max_seqs=1, max_model_len=128)
TOKENS = [int(i) for i in np.random.default_rng(0).integers(0, 50, 24)]


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Method:
    return METHODS[request.param]


@pytest.fixture(scope="module")
def cpu() -> CpuBackend:
    return CpuBackend(CpuDevice(num_threads=2))


def logits(backend: Backend, path: Path, policy: Policy) -> Array:
    with CheckpointFolder(path) as folder:
        read, store = read_model(folder)
        model = as_decoder(read)
        graph = model.build(head="logits")
        check_strict(store, graph.weights(), model.ignorable_names())
        executable = backend.compile(graph, store, LIMITS, policy=policy)
        specs = [replace(spec, dtype=kv_dtype(policy)) for spec in model.kv_specs()]
        cache = backend.allocate_kv(specs, [2])
        return executable.run(step([(0, TOKENS, [0, 1])]), cache).result().tensors["logits"].copy()


def test_values_are_held_exactly(tmp_path: Path, method: Method) -> None:
    with CheckpointFolder(quantized_folder(tmp_path, method)) as folder:
        _, store = with_layers(folder.config, folder)
        for name, layer in make_layers(method).items():
            tensor = store.get(f"{name}.weight")
            np.testing.assert_array_equal(dequantize(tensor.data, tensor.type, tensor.shape), layer.values())


def test_exact_has_the_bits_of_the_model_in_f32(tmp_path: Path, cpu: CpuBackend, method: Method) -> None:
    quantized, wide = quantized_folder(tmp_path / "q", method), f32_folder(tmp_path / "w", method)
    np.testing.assert_array_equal(logits(cpu, quantized, Policy.EXACT), logits(cpu, wide, Policy.EXACT))


def test_auto_is_close_to_it_and_to_the_reference(tmp_path: Path, cpu: CpuBackend, method: Method) -> None:
    quantized, wide = quantized_folder(tmp_path / "q", method), f32_folder(tmp_path / "w", method)
    got, exact = logits(cpu, quantized, Policy.AUTO), logits(cpu, wide, Policy.EXACT)
    assert 0 < np.abs(got - exact).max() < 0.05 * np.abs(exact).max()
    reference = logits(ReferenceBackend(), quantized, Policy.AUTO)
    assert np.abs(got - reference).max() < 0.01 * np.abs(exact).max()


def refused(path: Path, config: Mapping[str, object], method: str = "gptq") -> InvalidModel:
    with CheckpointFolder(quantized_folder(path, METHODS[method], config)) as folder:
        with pytest.raises(InvalidModel) as raised:
            read_model(folder)
        return raised.value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": 3}, "quantization_config: bits: expected one of 4, 8, got 3"),
        ({"bits": 2}, "quantization_config: bits: expected one of 4, 8, got 2"),
        ({"group_size": 48}, "quantization_config: group_size: expected -1 or a multiple of 32, got 48"),
        ({"group_size": 0}, "group_size: expected -1 or a multiple of 32, got 0"),
        ({"checkpoint_format": "marlin"}, "checkpoint_format: expected one of 'gptq', 'gptq_v2', got 'marlin'"),
        ({"format": "gptq_v2"}, "format: expected one of 'gptq', got 'gptq_v2'"),
        ({"is_marlin_format": True}, "is_marlin_format: expected one of False, got True"),
        ({"pack_dtype": "int16"}, "pack_dtype: expected one of 'int32', got 'int16'"),
        ({"dynamic": {"-:lm_head": {}}}, "dynamic: expected one of None, {}, got"),
        (
            {"rotation": "hadamard"},
            "quantization_config: unknown keys, which may change what the model computes: 'rotation'",
        ),
        (
            {"quant_method": "bitsandbytes"},
            "quant_method: expected one of gptq, awq, compressed-tensors, got 'bitsandbytes'",
        ),
    ],
)
def test_options_of_gptq_that_are_not_supported(tmp_path: Path, changes: Mapping[str, object], message: str) -> None:
    error = refused(tmp_path, gptq_config(**changes))
    assert type(error) is UnsupportedModel and message in error.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": 8}, "quantization_config: bits: expected one of 4, got 8"),
        ({"version": "gemv"}, "quantization_config: version: expected one of 'gemm', got 'gemv'"),
        ({"version": "gemv_fast"}, "version: expected one of 'gemm', got 'gemv_fast'"),
        ({"zero_point": False}, "zero_point: expected one of True, got False"),
    ],
)
def test_options_of_awq_that_are_not_supported(tmp_path: Path, changes: Mapping[str, object], message: str) -> None:
    error = refused(tmp_path, awq_config(**changes), "awq")
    assert type(error) is UnsupportedModel and message in error.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_bits": 2}, "config_groups: 'group_0': weights: num_bits: expected one of 4, 8, got 2"),
        ({"type": "float"}, "weights: type: expected one of 'int', got 'float'"),
        ({"strategy": "tensor"}, "weights: strategy: expected one of 'group', 'channel', got 'tensor'"),
        ({"actorder": "group"}, "weights: actorder: expected one of None, 'weight', 'static', got 'group'"),
        ({"dynamic": True}, "weights: dynamic: expected one of False, got True"),
        ({"strategy": "channel", "group_size": 64}, "weights: group_size: expected one of None, -1, got 64"),
        ({"is_mx": True}, "weights: unknown keys, which may change what the model computes: 'is_mx'"),
        (
            {"activations": {**ACTIVATIONS, "dynamic": False}},
            "input_activations: dynamic: expected one of True, got False",
        ),
        (
            {"activations": {**ACTIVATIONS, "type": "float"}},
            "input_activations: type: expected one of 'int', got 'float'",
        ),
    ],
)
def test_weights_of_compressed_tensors_that_are_not_supported(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    config = compressed_config("pack-quantized", changes.pop("activations", None), **changes)
    error = refused(tmp_path, config, "packed")
    assert type(error) is UnsupportedModel and message in error.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"format": "float-quantized"},
            "format: expected one of 'pack-quantized', 'int-quantized', got 'float-quantized'",
        ),
        ({"format": "nvfp4-pack-quantized"}, "got 'nvfp4-pack-quantized'"),
        ({"format": "marlin-24"}, "got 'marlin-24'"),
        ({"kv_cache_scheme": {"num_bits": 8}}, "kv_cache_scheme: expected one of None, got {'num_bits': 8}"),
        (
            {"sparsity_config": {"format": "sparse-24-bitmask"}},
            "sparsity_config: format: expected one of 'dense', got 'sp",
        ),
        ({"transform_config": {"config_groups": {}}}, "transform_config: expected one of None, {}, got"),
        ({"quantization_status": "frozen"}, "quantization_status: expected one of 'compressed', got 'frozen'"),
        ({"config_groups": {"a": 1}}, "config_groups: expected a group that is an object, got 1"),
        ({"config_groups": {}}, "config_groups: expected one group, got {}"),
        ({"config_groups": {"a": {}, "b": {}}}, "config_groups: expected one group, got {'a': {}, 'b': {}}"),
        ({"config_groups": {"a": {"targets": ["re:.*"]}}}, "'a': targets: expected ['Linear'], got ['re:.*']"),
        (
            {"config_groups": {"a": {"targets": ["Linear"]}}},
            "'a': weights: expected how weights are quantised, got None",
        ),
    ],
)
def test_forms_of_compressed_tensors_that_are_not_supported(
    tmp_path: Path, changes: Mapping[str, object], message: str
) -> None:
    error = refused(tmp_path, {**compressed_config(), **changes}, "packed")
    assert type(error) is UnsupportedModel and message in error.message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "expected a key 'quant_method', got none"),
        ({"quant_method": 4}, "quant_method: expected a string, got 4"),
        ({"quant_method": "gptq"}, "expected a key 'bits', got none"),
        ({"quant_method": "gptq", "bits": 4}, "expected a key 'group_size', got none"),
        ({"quant_method": "awq"}, "expected a key 'group_size', got none"),
        (gptq_config(group_size="64"), "group_size: expected an integer, got '64'"),
        (gptq_config(modules_to_not_convert="lm_head"), "modules_to_not_convert: expected a list of strings"),
        (gptq_config(modules_to_not_convert=["model.layers.0.mlp.up_proj"]), "expected a layer that is not quantised"),
        (gptq_config(group_size=32), "expected I32 (4, 16), got I32 (2, 16)"),
    ],
)
def test_configs_that_are_malformed(tmp_path: Path, config: Mapping[str, object], message: str) -> None:
    error = refused(tmp_path, config)
    assert type(error) is InvalidModel and message in error.message


def test_a_key_that_the_user_vouches_for(tmp_path: Path) -> None:
    with CheckpointFolder(quantized_folder(tmp_path, METHODS["gptq"], gptq_config(rotation=None, novel=1))) as folder:
        with pytest.raises(UnsupportedModel, match="'novel'"):
            read_model(folder)
        read_model(folder, allowed_config_keys=["novel"])
