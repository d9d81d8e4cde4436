"""``quantization_config`` of a ``config.json``, read key by key: how the layers of a checkpoint are quantised.

Sources: the quantisation configs of the transformers library, AutoGPTQ and GPTQModel, AutoAWQ, compressed-tensors.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from lepton_ai.models.hf_config import HFConfig
from lepton_ai.weights.awq import AWQ
from lepton_ai.weights.compressed_tensors import CompressedTensors
from lepton_ai.weights.files import shown
from lepton_ai.weights.gptq import GPTQ
from lepton_ai.weights.quantized_store import QuantizedStore, RawStore, Scheme
from lepton_ai.weights.store import WeightStore

KEY: Final = "quantization_config"

_METHODS: Final = ("gptq", "awq", "compressed-tensors")

_HARMLESS: Final = frozenset(
    (
        *("damp_percent", "damp_auto_increment", "mse", "true_sequential", "static_groups", "desc_act", "sym"),
        *("dataset", "tokenizer", "batch_size", "model_seqlen", "max_input_length", "pad_token_id", "quantizer"),
        *("model_name_or_path", "model_file_base_name", "meta", "backend", "cache_block_outputs"),
        *("block_name_to_quantize", "module_name_preceding_first_block", "modules_in_block_to_quantize", "lm_head"),
        *("use_cuda_fp16", "use_exllama", "disable_exllama", "exllama_config"),
        *("do_fuse", "fuse_max_seq_len", "modules_to_fuse"),
    )
)
"""Of GPTQ and AWQ: how codes were found, or how another engine runs them. What ``desc_act`` and ``sym`` mean stands in
the tensors.
"""

_COMPRESSED_HARMLESS: Final = frozenset(("global_compression_ratio", "version", "run_compressed"))
_WEIGHTS_HARMLESS: Final = frozenset(("observer", "observer_kwargs", "scale_dtype", "zp_dtype"))
_ACTIVATIONS_HARMLESS: Final = frozenset(("group_size", "block_structure", "actorder", *_WEIGHTS_HARMLESS))


def with_layers(
    values: Mapping[str, object], store: RawStore, allowed_keys: Collection[str] = ()
) -> tuple[Mapping[str, object], WeightStore]:
    """A ``config.json`` without its ``quantization_config``, and the tensors with one for each layer.

    Without that key, what was given. ``allowed_keys`` of it may be unknown. Raises InvalidModel, UnsupportedModel
    naming a key and what of it is supported, WeightMismatch for tensors that do not belong together.
    """
    section = HFConfig(values).take_object(KEY)
    if section is None:
        return values, store
    ignore_key = "modules_to_not_convert"
    match section.take_str("quant_method"):
        case "gptq":
            scheme = _gptq(section)
        case "awq":
            scheme = _awq(section)
        case "compressed-tensors":
            scheme, ignore_key = _compressed(section, allowed_keys), "ignore"
        case other:
            raise section.unsupported("quant_method", f"one of {', '.join(_METHODS)}", other)
    unquantized = section.take_strings(ignore_key) or ()
    section.refuse_unread(allowed_keys, harmless=())
    rest = {key: value for key, value in values.items() if key != KEY}
    return rest, QuantizedStore(store, scheme, unquantized=frozenset(unquantized))


def _gptq(section: HFConfig) -> Scheme:
    section.ignore(*_HARMLESS)
    section.require("bits", 4, 8)
    section.require("pack_dtype", "int32")
    section.require("is_marlin_format", False)
    section.require("method", "gptq")
    section.require("dynamic", None, {})
    stored = section.take_str("checkpoint_format", section.take_str("format", "gptq"))
    section.require("checkpoint_format", "gptq", "gptq_v2")
    section.require("format", stored)
    return GPTQ(section.take_int("bits"), _group_size(section), is_offset=stored == "gptq")


def _awq(section: HFConfig) -> Scheme:
    section.ignore(*_HARMLESS)
    section.require("bits", 4)
    section.require("zero_point", True)
    section.require("version", "gemm")
    return AWQ(_group_size(section))


def _group_size(section: HFConfig) -> int | None:
    """Inputs that share a scale; None for -1, a whole row."""
    size = section.take_int("group_size")
    if size == -1:
        return None
    if size < 32 or size % 32:
        raise section.unsupported("group_size", "-1 or a multiple of 32", size)
    return size


def _compressed(section: HFConfig, allowed_keys: Collection[str]) -> Scheme:
    section.ignore(*_COMPRESSED_HARMLESS)
    section.require("format", "pack-quantized", "int-quantized")
    section.require("quantization_status", "compressed")
    section.require("kv_cache_scheme", None)
    section.require("transform_config", None, {})
    if (sparsity := section.take_object("sparsity_config")) is not None:
        sparsity.require("format", "dense")
    stored, group = section.take_str("format"), _only_group(section)
    group.require("format", stored)
    group.require("output_activations", None)
    if list(group.take_strings("targets") or ()) != ["Linear"]:
        raise group.unsupported("targets", "['Linear']", group.take("targets"))
    _check_activations(group.take_object("input_activations"), allowed_keys)
    weights = group.take_object("weights")
    if weights is None:
        raise group.unsupported("weights", "how weights are quantised", None)
    scheme = _compressed_weights(weights, is_packed=stored == "pack-quantized")
    weights.refuse_unread(allowed_keys, harmless=_WEIGHTS_HARMLESS)
    group.refuse_unread(allowed_keys, harmless=())
    return scheme


def _only_group(section: HFConfig) -> HFConfig:
    groups = section.take("config_groups")
    if not isinstance(groups, dict) or len(groups) != 1:
        raise section.unsupported("config_groups", "one group", groups)
    ((name, group),) = groups.items()
    if not isinstance(group, dict):
        raise section.unsupported("config_groups", "a group that is an object", group)
    return HFConfig(group, path=f"config.json: {KEY}: config_groups: {shown(name)}")


def _compressed_weights(weights: HFConfig, *, is_packed: bool) -> Scheme:
    weights.require("num_bits", *((4, 8) if is_packed else (8,)))
    weights.require("type", "int")
    weights.require("strategy", "group", "channel")
    weights.require("dynamic", False)
    weights.require("actorder", None, "weight", "static")
    weights.require("block_structure", None)
    group_size = None
    if weights.take_str("strategy") == "group":
        group_size = _group_size(weights)
    else:
        weights.require("group_size", None, -1)
    return CompressedTensors(
        weights.take_int("num_bits"), group_size, is_packed=is_packed, is_symmetric=weights.take_bool("symmetric", True)
    )


def _check_activations(activations: HFConfig | None, allowed_keys: Collection[str]) -> None:
    """Activations of 8 bits, token by token: a policy says how Lepton computes. Fixed scales would be weights."""
    if activations is None:
        return
    activations.require("num_bits", 8)
    activations.require("type", "int")
    activations.require("symmetric", True)
    activations.require("strategy", "token")
    activations.require("dynamic", True)
    activations.refuse_unread(allowed_keys, harmless=_ACTIVATIONS_HARMLESS)
