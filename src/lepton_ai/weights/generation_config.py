"""``generation_config.json`` of a folder: the tokens that end a text, and how its authors sample from the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lepton_ai.errors import InvalidModel
from lepton_ai.weights.json_object import read_object

GENERATION_CONFIG: Final = "generation_config.json"

_MAX_BYTES: Final = 1 << 20
_MAX_END_TOKENS: Final = 256
_SAMPLING_KEYS: Final = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """``eos_token_ids`` end a text. ``sampling`` has fields of ``SamplingParams``, numbers of unchecked range.

    The file's other keys say how the transformers library searches (beams, lengths, forbidden tokens), not what the
    model is, and are not obeyed; ``do_sample`` neither, without which that library ignores what stands in ``sampling``.
    """

    eos_token_ids: tuple[int, ...] = ()
    sampling: Mapping[str, int | float] = field(default_factory=dict)


def read_generation_config(folder: Path, config: Mapping[str, object], *, vocab_size: int) -> GenerationConfig:
    """What the file in ``folder`` says; without one, the end tokens of its ``config.json``, which is ``config``.

    Raises InvalidModel, naming file and key, for an end token that is not below ``vocab_size``, and for what is no
    number.
    """
    path = folder / GENERATION_CONFIG
    if not path.exists():
        return GenerationConfig(_end_tokens(config, folder / "config.json", vocab_size))
    values = read_object(path, max_bytes=_MAX_BYTES)
    sampling = {key: _number(value, path, key) for key in _SAMPLING_KEYS if (value := values.get(key)) is not None}
    return GenerationConfig(_end_tokens(values, path, vocab_size), sampling)


def _end_tokens(values: Mapping[str, object], path: Path, vocab_size: int) -> tuple[int, ...]:
    value = values.get("eos_token_id")
    ids = [] if value is None else value if isinstance(value, list) else [value]
    expected = f"{path}: eos_token_id: expected token ids from 0 to {vocab_size - 1}"
    if len(ids) > _MAX_END_TOKENS:
        raise InvalidModel(f"{expected}, at most {_MAX_END_TOKENS} of them, got {len(ids)}", param="model")
    for token_id in ids:
        if type(token_id) is not int or not 0 <= token_id < vocab_size:
            raise InvalidModel(f"{expected}, got {token_id!r:.40}", param="model")
    return tuple(ids)


def _number(value: object, path: Path, key: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidModel(f"{path}: {key}: expected a number, got {value!r:.40}", param="model")
    return value
