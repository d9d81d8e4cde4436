"""What was loaded, and how it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lepton_ai.engine.decoder import Decoder
from lepton_ai.engine.loading import LoadedModel


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What was loaded, and how it runs.

    ``digest`` is the sha256 of the checkpoint. ``context_length`` is the model's own, ``max_model_len`` the longest
    request here, prompt and output, both in tokens. ``kv_bytes`` is the size of the KV cache, ``kv_dtype`` what it
    holds: "f32", "f16" or "int8"; None for an encoder, which keeps none.
    """

    name: str
    path: Path
    digest: str
    architecture: str
    vocab_size: int
    context_length: int
    max_model_len: int
    kv_bytes: int
    kv_dtype: str | None
    policy: str
    backend: str
    num_threads: int
    isa: str


def model_info(name: str, loaded: LoadedModel) -> ModelInfo:
    """Of a model that was asked for by ``name``."""
    runtime = loaded.runtime
    config = runtime.model.config
    return ModelInfo(
        name=name,
        path=loaded.path,
        digest=loaded.checkpoint.digest,
        architecture=config.architecture,
        vocab_size=config.vocab_size,
        context_length=config.context_length,
        max_model_len=runtime.limits.max_model_len,
        kv_bytes=runtime.kv_bytes,
        kv_dtype=runtime.kv_dtype.value if isinstance(runtime, Decoder) else None,
        policy=loaded.options.policy.value,
        backend=loaded.device.backend.name,
        num_threads=loaded.device.num_threads,
        isa=loaded.device.isa,
    )
