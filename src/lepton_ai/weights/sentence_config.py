"""What a folder of the sentence-transformers library says of turning token vectors into one vector for a text.

``modules.json`` lists the steps: a transformer, a pooling with a configuration of its own, perhaps a normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.graph.attrs import PoolMode
from lepton_ai.weights.json_object import read_list, read_object

MAX_BYTES: Final = 1 << 20

_PREFIX = "sentence_transformers."
_MODES: Final[dict[str, PoolMode]] = {
    "pooling_mode_cls_token": PoolMode.CLS,
    "pooling_mode_mean_tokens": PoolMode.MEAN,
    "pooling_mode_max_tokens": PoolMode.MAX,
    "pooling_mode_mean_sqrt_len_tokens": PoolMode.MEAN_SQRT_LEN,
    "pooling_mode_lasttoken": PoolMode.LAST,
}
_UNSUPPORTED_MODES: Final = ("pooling_mode_weightedmean_tokens",)
_HARMLESS: Final = ("word_embedding_dimension", "include_prompt", "embedding_dimension", "pooling_mode")


@dataclass(frozen=True, slots=True)
class SentenceConfig:
    """How texts become vectors. ``max_length``, in tokens: longer texts are not what the model was trained on."""

    pooling: PoolMode
    is_normalized: bool
    max_length: int | None


def read_sentence_config(folder: Path) -> SentenceConfig | None:
    """What the folder says; None if it says nothing.

    Raises UnsupportedModel for steps and ways of pooling that are not known, InvalidModel for malformed files.
    """
    modules_path = folder / "modules.json"
    if not modules_path.exists():
        return None
    kinds, paths = zip(*(_module(entry, modules_path) for entry in _modules(modules_path)), strict=True)
    if kinds not in (("Transformer", "Pooling"), ("Transformer", "Pooling", "Normalize")):
        shown = ", ".join(kinds)
        raise UnsupportedModel(
            f"{modules_path}: expected Transformer, Pooling and perhaps Normalize, got {shown:.200}", param="model"
        )
    if paths[0] not in ("", "."):
        raise UnsupportedModel(f"{modules_path}: expected the transformer in the folder itself, got {paths[0]!r:.80}")
    pooling = _read_pooling(folder / paths[1] / "config.json")
    return SentenceConfig(pooling, kinds[-1] == "Normalize", _read_max_length(folder))


def _modules(path: Path) -> list[object]:
    modules = read_list(path, max_bytes=MAX_BYTES)
    if not modules:
        raise InvalidModel(f"{path}: expected modules, got none", param="model")
    return modules


def _module(entry: object, path: Path) -> tuple[str, str]:
    """Kind and folder of a module."""
    kind = entry.get("type") if isinstance(entry, dict) else None
    place = entry.get("path") if isinstance(entry, dict) else None
    if not isinstance(kind, str) or not isinstance(place, str):
        raise InvalidModel(f"{path}: expected a type and a path for each module, got {entry!r:.80}", param="model")
    # A path with a separator or dots would let the list point out of the folder.
    if "/" in place or "\0" in place or place == "..":
        raise InvalidModel(f"{path}: expected the name of a folder, got {place!r:.80}", param="model")
    return (kind.rpartition(".")[2] if kind.startswith(_PREFIX) else kind), place


def _read_pooling(path: Path) -> PoolMode:
    values = read_object(path, max_bytes=MAX_BYTES)
    unknown = [key for key in values if key not in (*_MODES, *_UNSUPPORTED_MODES, *_HARMLESS)]
    if unknown:
        raise UnsupportedModel(
            f"{path}: unknown keys: {', '.join(f'{key!r:.40}' for key in unknown[:8])}", param="model"
        )
    chosen = [key for key in (*_MODES, *_UNSUPPORTED_MODES) if values.get(key) is True]
    if not chosen and (mode := values.get("pooling_mode")) is not None:
        chosen = [key for key, known in _MODES.items() if known.value == mode] or [str(mode)]
    if len(chosen) != 1 or chosen[0] not in _MODES:
        raise UnsupportedModel(
            f"{path}: expected one way of pooling, of {', '.join(_MODES)}; got {', '.join(chosen) or 'none'}",
            param="model",
        )
    return _MODES[chosen[0]]


def _read_max_length(folder: Path) -> int | None:
    path = folder / "sentence_bert_config.json"
    if not path.exists():
        return None
    value = read_object(path, max_bytes=MAX_BYTES).get("max_seq_length")
    if value is not None and (type(value) is not int or not 1 <= value <= 1 << 24):
        raise InvalidModel(f"{path}: max_seq_length: expected 1 to 2^24 tokens, got {value!r:.40}", param="model")
    return value
