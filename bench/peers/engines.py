"""The engines that are measured."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from bench.peers import forms
from bench.peers.encoder_files import exported
from bench.peers.engine import Engine, Setting

_BF16 = "avx512_bf16"

LEPTON = Engine(name="Lepton", module="lepton", has_logits=True, can_limit_isa=True)
LEPTON_EXACT = Engine(name="Lepton exact", module="lepton", options=("--policy", "exact"), has_logits=True)
"""Its predictions are those that all others are held against."""

_LONG = ("--max-model-len", "4608")
LEPTON_LONG = Engine(name="Lepton", module="lepton", options=_LONG, can_limit_isa=True)
MEMORY = Engine(name="memory", module="memory", can_limit_isa=True)
"""What reads as many bytes as a step of Lepton, and does nothing else."""


def _with_kv(engine: Engine, dtype: str) -> Engine:
    options = *engine.options, "--kv-dtype", dtype
    return replace(engine, name=f"{engine.name}, {dtype} KV", options=options)


KV_CACHES = (
    (LEPTON_LONG, MEMORY),
    *((_with_kv(LEPTON_LONG, dtype), _with_kv(MEMORY, dtype)) for dtype in ("f16", "int8")),
)
"""With the policy's own cache and others: Lepton, and memory."""

LLAMA_CPP = Engine(
    name="llama.cpp",
    module="llama_cpp",
    environment="llama_cpp",
    settings=(
        Setting("flash attention"),
        Setting("plain attention", ("--no-flash-attention",)),
    ),
    has_logits=True,
    can_limit_isa=True,
    start_script="llama_cpp_low_level.py",
)

OPENVINO = Engine(
    name="OpenVINO GenAI int4",
    module="openvino_genai",
    environment="openvino",
    settings=(
        Setting("f32"),
        Setting("f32, f16 KV", ("--kv-precision", "f16")),
        Setting("bf16", ("--precision", "bf16"), needs=_BF16),
        Setting("bf16, bf16 KV", ("--precision", "bf16", "--kv-precision", "bf16"), needs=_BF16),
    ),
    form=forms.openvino,
    bits="4.25 / 8",
    has_logits=True,
    start_script="openvino_genai_start.py",
)
ONNX_RUNTIME = Engine(
    name="ONNX Runtime GenAI int4",
    module="onnxruntime_genai",
    environment="onnxruntime",
    form=forms.onnxruntime,
    bits="5 / 5",
    has_logits=True,
    start_script="onnxruntime_genai_start.py",
)
CTRANSLATE2 = Engine(
    name="CTranslate2 int8",
    module="ctranslate2",
    environment="ctranslate2",
    form=forms.ctranslate2,
    bits="8 / 8",
    has_logits=True,
    start_script="ctranslate2_start.py",
)
LOW_BIT_PEERS = (OPENVINO, ONNX_RUNTIME, CTRANSLATE2)

TRANSFORMERS = Engine(
    name="transformers f32",
    module="transformers",
    environment="transformers",
    form=forms.hf_folder,
    bits="32 / 32",
    has_logits=True,
    start_script="transformers_start.py",
)

GENERATION_PEERS = (LLAMA_CPP, *LOW_BIT_PEERS, TRANSFORMERS)

ONE_SECOND = Engine(name="limit", module="first_token")
"""What a launch is held against that has a limit of its own."""

LEPTON_ENCODER = Engine(name="Lepton fast", module="lepton_encoder", options=("--policy", "fast"))


def encoder_peers(flags: frozenset[str]) -> tuple[Engine, ...]:
    """Each in 8-bit integers and in f32. Where a processor with ``flags`` can, OpenVINO runs in bf16 as well, and
    computes in it what is not quantised.
    """
    bf16 = ("--precision", "bf16") if _BF16 in flags else ()
    return (
        _exported("ONNX Runtime int8", "onnxruntime_encoder", "int8.onnx"),
        _exported("OpenVINO int8", "openvino_encoder", "int8.xml", bf16),
        CTRANSLATE2_ENCODER,
        ENCODER_REFERENCE,
        _exported("OpenVINO f32", "openvino_encoder", "f32.onnx"),
        *([_exported("OpenVINO bf16", "openvino_encoder", "f32.onnx", bf16)] if bf16 else ()),
    )


def _exported(name: str, module: str, file: str, options: tuple[str, ...] = ()) -> Engine:
    return Engine(
        name=name,
        module=module,
        environment="encoders",
        options=("--name", name, *options),
        form=partial(exported, file),
    )


CTRANSLATE2_ENCODER = Engine(
    name="CTranslate2 int8",
    module="ctranslate2_encoder",
    environment="ctranslate2",
    form=forms.ctranslate2,
)

ENCODER_REFERENCE = _exported("ONNX Runtime f32", "onnxruntime_encoder", "f32.onnx")
"""Its vectors are those that all others are held against."""
