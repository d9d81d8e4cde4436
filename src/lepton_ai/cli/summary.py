"""What is in a model file: the facts of ``lepton inspect``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lepton_ai.config import Environment, Policy
from lepton_ai.errors import UnsupportedModel
from lepton_ai.models.encoder import EncoderModel
from lepton_ai.models.family import Model
from lepton_ai.models.hf_quantization import with_layers
from lepton_ai.models.registry import read_model
from lepton_ai.text.gguf_tokens import CHAT_TEMPLATE_KEY
from lepton_ai.weights.checkpoint import Checkpoint
from lepton_ai.weights.folder import CheckpointFolder
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.store import WeightStore


@dataclass(frozen=True, slots=True)
class TypeSummary:
    """The tensors of one storage type."""

    type: str
    num_tensors: int
    num_parameters: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A model file, or a folder of them. ``format`` is such as "GGUF 3" or "safetensors".

    ``problem`` says why Lepton does not run it; what only its architecture would tell is None then.
    ``kv_bytes_per_token`` is what a token takes in the KV cache under ``policy``.
    """

    path: str
    size_bytes: int
    format: str
    digest: str
    name: str
    architecture: str
    problem: str | None
    context_length: int | None
    num_layers: int | None
    hidden_size: int | None
    vocab_size: int | None
    num_parameters: int
    bits_per_weight: float
    policy: str
    kv_bytes_per_token: int | None
    chat_template_characters: int | None
    types: Sequence[TypeSummary]


def summarize(file: Checkpoint, policy: Policy) -> Summary:
    """Read the header and the digest. Raises InvalidModel for hyper-parameters that are out of bounds."""
    types = _summarize_types(with_layers(file.config, file)[1] if isinstance(file, CheckpointFolder) else file)
    num_parameters = sum(t.num_parameters for t in types)
    model, problem = _load(file)
    config = model.config if model else None
    name, architecture, template = _described(file)
    return Summary(
        path=str(file.path),
        size_bytes=file.num_bytes,
        format="safetensors" if isinstance(file, CheckpointFolder) else f"GGUF {file.version}",
        digest=file.digest,
        name=name,
        architecture=architecture,
        problem=problem,
        context_length=config.context_length if config else None,
        num_layers=config.num_layers if config else None,
        hidden_size=config.hidden_size if config else None,
        vocab_size=config.vocab_size if config else None,
        num_parameters=num_parameters,
        bits_per_weight=8 * sum(t.num_bytes for t in types) / max(num_parameters, 1),
        policy=policy.value,
        kv_bytes_per_token=_kv_bytes_per_token(model, policy),
        chat_template_characters=len(template) or None,
        types=types,
    )


def _described(file: Checkpoint) -> tuple[str, str, str]:
    """Name, architecture and chat template, empty where the checkpoint does not say."""
    if isinstance(file, CheckpointFolder):
        name, model_type = (str(file.config.get(key) or "") for key in ("_name_or_path", "model_type"))
        path = file.path / "chat_template.jinja"
        return name, model_type, path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    texts = file.metadata
    template = texts.get_str(CHAT_TEMPLATE_KEY, "")
    return texts.get_str("general.name", ""), texts.get_str("general.architecture"), template


def _summarize_types(store: WeightStore) -> list[TypeSummary]:
    """Largest share first. Of a layer that is quantised, the type and the bytes are those with which it is held."""
    tensors = [store.get(name) for name in store.names()]
    summaries = []
    for weight_type in WeightType:
        mine = [tensor for tensor in tensors if tensor.type is weight_type]
        if mine:
            num_parameters = sum(math.prod(tensor.shape) for tensor in mine)
            num_bytes = sum(tensor.num_bytes for tensor in mine)
            summaries.append(TypeSummary(weight_type.value, len(mine), num_parameters, num_bytes))
    return sorted(summaries, key=lambda summary: -summary.num_bytes)


def _load(file: Checkpoint) -> tuple[Model | None, str | None]:
    """A file whose architecture Lepton does not run can still be looked into."""
    try:
        return read_model(file)[0], None
    except UnsupportedModel as error:
        return None, error.message


def _kv_bytes_per_token(model: Model | None, policy: Policy) -> int | None:
    if model is None or isinstance(model, EncoderModel):
        return None
    from lepton_ai.backends.cpu.backend import default_kv_dtype
    from lepton_ai.backends.cpu.device import choose_isa

    dtype = default_kv_dtype(policy, choose_isa(Environment.read().cpu_isa))
    return sum(replace(spec, dtype=dtype).bytes_per_token for spec in model.kv_specs())
