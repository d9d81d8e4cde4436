"""Pre-tokenizers by the name that GGUF gives them: how text is cut into words before BPE.

Each is what the models' publishers define, as the ``tokenizers`` library writes it in JSON. GGUF names no normalizer
and none is applied: Qwen's own tokenizer composes text to NFC first, llama.cpp does not, and with it text given in
decomposed form would not come back as it was. What is a letter or a digit is what the Unicode tables of ``tokenizers``
say; other engines with older tables cut differently around characters that Unicode has added since.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lepton_ai.errors import UnsupportedModel

Json = Mapping[str, object]


def _byte_level(*, use_regex: bool) -> Json:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _sequence(*steps: Json) -> Json:
    return {"type": "Sequence", "pretokenizers": list(steps)}


_QWEN2_WORD = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_PRETOKENIZERS: Mapping[str, Json] = MappingProxyType(
    {
        "qwen2": _sequence(
            {"type": "Split", "pattern": {"Regex": _QWEN2_WORD}, "behavior": "Isolated", "invert": False},
            _byte_level(use_regex=False),
        ),
        "smollm": _sequence({"type": "Digits", "individual_digits": True}, _byte_level(use_regex=True)),
    }
)


def pretokenizer_json(name: str) -> Json:
    """The pre-tokenizer called ``name``. Raises UnsupportedModel for an unknown one."""
    if name not in _PRETOKENIZERS:
        known = ", ".join(sorted(_PRETOKENIZERS))
        raise UnsupportedModel(f"tokenizer.ggml.pre: expected one of {known}, got {name!r}", param="model")
    return _PRETOKENIZERS[name]
