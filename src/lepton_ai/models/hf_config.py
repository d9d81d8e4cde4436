"""``config.json`` as the transformers library writes it, read key by key, and what of it no family read is refused.

A family says what each key means in the terms of GGUF metadata, so that one parser serves both kinds of checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from lepton_ai.errors import InvalidModel, UnsupportedModel

_HARMLESS: Final = frozenset(
    (
        *("_name_or_path", "architectures", "model_type", "auto_map", "transformers_version", "torch_dtype", "dtype"),
        *("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "cls_token_id"),
        *("initializer_range", "initializer_factor", "attention_dropout", "attention_probs_dropout_prob"),
        *("hidden_dropout_prob", "hidden_dropout", "dropout", "classifier_dropout", "gradient_checkpointing"),
        *("use_cache", "output_attentions", "output_hidden_states", "return_dict", "torchscript"),
        *("id2label", "label2id", "num_labels", "problem_type", "task_specific_params", "finetuning_task"),
        *("max_length", "do_sample", "chunk_size_feed_forward", "pretraining_tp", "language", "tokenizer_class"),
    )
)
"""Keys that say nothing of how logits are computed from ids: how it was trained, saved, or is used."""


class HFConfig:
    """The keys of one ``config.json``. Each ``take_*`` marks its key as read.

    They raise InvalidModel for a value of another type, and for an absent key without a default. A JSON null counts as
    absent, as it does for the library.
    """

    def __init__(self, values: Mapping[str, object], *, path: str = "config.json") -> None:
        self._values = values
        self._path = path
        self._read: set[str] = set()

    def take(self, key: str) -> object:
        """Whatever is there; None if it is absent."""
        self._read.add(key)
        return self._values.get(key)

    def ignore(self, *keys: str) -> None:
        """Count keys as read that change nothing in what the family computes."""
        self._read.update(keys)

    def take_int(self, key: str, default: int | None = None) -> int:
        """An integer."""
        value = self._present(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 1 << 53:
            raise self._wrong(key, "an integer", value)
        return value

    def take_float(self, key: str, default: float | None = None) -> float:
        """A finite real number."""
        value = self._present(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._wrong(key, "a number", value)
        return float(value)

    def take_bool(self, key: str, default: bool | None = None) -> bool:
        """A truth value."""
        value = self._present(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def take_str(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self._present(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, "a string", value)
        return value

    def take_object(self, key: str) -> HFConfig | None:
        """An object in the object, whose own keys are to be read; None if it is absent."""
        value = self.take(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._wrong(key, "an object", value)
        return HFConfig(value, path=f"{self._path}: {key}")

    def take_strings(self, key: str) -> Sequence[str] | None:
        """A list of strings; None if it is absent."""
        value = self.take(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, "a list of strings", value)
        return value

    def require(self, key: str, *supported: object) -> None:
        """Read a key whose value must be one of ``supported``, the first of which is what its absence means.

        Raises UnsupportedModel.
        """
        value = self.take(key)
        if value is not None and not any(value is s or (type(value) is type(s) and value == s) for s in supported):
            raise self.unsupported(key, f"one of {', '.join(map(repr, supported))}", value)

    def unsupported(self, key: str, expected: str, got: object) -> UnsupportedModel:
        """The error for a key whose value is none that is supported."""
        return UnsupportedModel(f"{self._path}: {key}: expected {expected}, got {got!r:.80}", param="model")

    def refuse_unread(self, allowed: Collection[str] = (), *, harmless: Collection[str] = _HARMLESS) -> None:
        """Raise UnsupportedModel for keys that nothing read: they might change what the model computes.

        ``allowed`` are the user's exceptions.
        """
        known = self._read | set(harmless) | set(allowed)
        unknown = [key for key, value in self._values.items() if key not in known and value is not None]
        if unknown:
            shown = ", ".join(f"{key[:64]!r}" for key in unknown[:8]) + (", ..." if len(unknown) > 8 else "")
            raise UnsupportedModel(
                f"{self._path}: unknown keys, which may change what the model computes: {shown}; "
                "allow those that do not with --allow-config-key",
                param="allow_config_keys",
            )

    def _present(self, key: str, default: object) -> object:
        value = self.take(key)
        if value is None:
            value = default
        if value is None:
            raise InvalidModel(f"{self._path}: expected a key {key!r}, got none", param="model")
        return value

    def _wrong(self, key: str, expected: str, got: object) -> InvalidModel:
        return InvalidModel(f"{self._path}: {key}: expected {expected}, got {got!r:.80}", param="model")


def rope_keys(config: HFConfig, *, default_base: float = 10000.0) -> dict[str, object]:
    """The keys ``rope.*`` of a family with one rotation: ``rope_theta`` and ``rope_scaling`` of version 4 of the
    library, ``rope_parameters`` of version 5.

    Raises UnsupportedModel for a kind of scaling, or a parameter of it, that is not known.
    """
    parameters = config.take_object("rope_parameters") or HFConfig({})
    scaling = config.take_object("rope_scaling") or parameters
    base = parameters.take_float("rope_theta", config.take_float("rope_theta", default_base))
    keys: dict[str, object] = {"rope.freq_base": base}
    kind = scaling.take_str("rope_type", scaling.take_str("type", "default"))
    scaling.take("rope_theta")
    if kind != "default":
        keys["rope.scaling.type"] = kind
        for name, key in _SCALING_KEYS.items():
            if scaling.take(name) is not None:
                number = scaling.take_float(name)
                keys[f"rope.scaling.{key}"] = int(number) if key == "original_context_length" else number
        scaling.require("truncate", True)
        if kind in ("llama3", "yarn") and "rope.scaling.original_context_length" not in keys:
            keys["rope.scaling.original_context_length"] = config.take_int("max_position_embeddings")
    scaling.refuse_unread(harmless=())
    parameters.refuse_unread(harmless=())
    return keys


_MAX_LAYERS: Final = 1024

_SCALING_KEYS: Final = {
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_max_position_embeddings": "original_context_length",
    "attention_factor": "attention_factor",
    "beta_fast": "yarn_beta_fast",
    "beta_slow": "yarn_beta_slow",
}


def window_keys(config: HFConfig, *, is_used: bool) -> dict[str, object]:
    """The keys of layers that see a window of positions: ``layer_types``, or all from ``max_window_layers`` on."""
    window = config.take("sliding_window")
    first = config.take_int("max_window_layers", 0)
    kinds = config.take_strings("layer_types")
    if window is None or not is_used:
        return {}
    num_layers = config.take_int("num_hidden_layers")
    if kinds is None:
        pattern = [layer >= first for layer in range(min(num_layers, _MAX_LAYERS))]
    else:
        known = {"full_attention": False, "sliding_attention": True}
        for kind in kinds:
            if kind not in known:
                raise UnsupportedModel(f"layer_types: expected {' or '.join(known)}, got {kind!r:.80}", param="model")
        pattern = [known[kind] for kind in kinds]
    return {
        "attention.sliding_window": config.take_int("sliding_window"),
        "attention.sliding_window_pattern": pattern,
    }
