"""Lepton: a small, fast and safe inference engine for language models.

    from lepton_ai import LLM, SamplingParams

    with LLM("smollm2") as llm:
        (completion,) = llm.generate("The capital of France is", SamplingParams(max_tokens=16))
        print(completion.text)

Public names are imported when they are first used, so that ``import lepton_ai`` itself costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from lepton_ai.version import __version__

if TYPE_CHECKING:
    from lepton_ai.engine.async_llm import AsyncLLM
    from lepton_ai.engine.constraints.constraint import Constraint
    from lepton_ai.engine.device import Device
    from lepton_ai.engine.llm import LLM
    from lepton_ai.engine.outputs import (
        Chunk,
        Classification,
        Completion,
        LabeledToken,
        Score,
        TokenLogprob,
        Usage,
    )
    from lepton_ai.engine.pretrained import BertModel, CausalOutput, EncoderOutput, GPTModel
    from lepton_ai.engine.remote.process import EngineProcess
    from lepton_ai.engine.request_options import RequestOptions
    from lepton_ai.engine.sampling_params import SamplingParams
    from lepton_ai.engine.stats import EngineStats
    from lepton_ai.engine.trace import StepTrace
    from lepton_ai.errors import LeptonError
    from lepton_ai.text.tokenizer import Tokenizer

__all__ = [
    "LLM",
    "AsyncLLM",
    "BertModel",
    "CausalOutput",
    "Chunk",
    "Classification",
    "Completion",
    "Constraint",
    "Device",
    "EncoderOutput",
    "EngineProcess",
    "EngineStats",
    "GPTModel",
    "LabeledToken",
    "LeptonError",
    "RequestOptions",
    "SamplingParams",
    "Score",
    "StepTrace",
    "TokenLogprob",
    "Tokenizer",
    "Usage",
    "__version__",
]


def __getattr__(name: str) -> object:
    match name:
        case "LLM":
            module = "lepton_ai.engine.llm"
        case "AsyncLLM":
            module = "lepton_ai.engine.async_llm"
        case "EngineProcess":
            module = "lepton_ai.engine.remote.process"
        case "Device":
            module = "lepton_ai.engine.device"
        case "Chunk" | "Classification" | "Completion" | "LabeledToken" | "Score" | "TokenLogprob" | "Usage":
            module = "lepton_ai.engine.outputs"
        case "BertModel" | "CausalOutput" | "EncoderOutput" | "GPTModel":
            module = "lepton_ai.engine.pretrained"
        case "Constraint":
            module = "lepton_ai.engine.constraints.constraint"
        case "RequestOptions":
            module = "lepton_ai.engine.request_options"
        case "EngineStats":
            module = "lepton_ai.engine.stats"
        case "StepTrace":
            module = "lepton_ai.engine.trace"
        case "SamplingParams":
            module = "lepton_ai.engine.sampling_params"
        case "Tokenizer":
            module = "lepton_ai.text.tokenizer"
        case "LeptonError":
            module = "lepton_ai.errors"
        case _:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
