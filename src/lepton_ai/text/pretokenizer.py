"""Pre-tokenizers by the name that GGUF gives them: how text is cut into words before BPE.

Each is what the models' publishers define, as the ``tokenizers`` library writes it in JSON. GGUF names no normalizer
and none is applied: Qwen's own tokenizer composes text to NFC first, llama.cpp does not, and with it text given in
decomposed form would not come back as it was. What is a letter or a digit is what the Unicode tables of ``tokenizers``
say; other engines with older tables cut differently around characters that Unicode has added since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lepton_ai.errors import UnsupportedModel
from lepton_ai.text.vocabulary import Json

_GPT2_WORD = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3_WORD = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2_WORD = _LLAMA3_WORD.replace(r"\p{N}{1,3}", r"\p{N}")

PUBLISHED_PATTERNS = frozenset(
    {
        *(_GPT2_WORD, _LLAMA3_WORD, _QWEN2_WORD),
        # The same as written in other tokenizers' files.
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"\p{N}{1,3}",
        r"\p{N}",
        r"\d",
        r"\s+",
    }
)
"""Regular expressions that a ``tokenizer.json`` may hold. The engine backtracks, so that others could take for ever."""


@dataclass(frozen=True, slots=True)
class Pretokenizer:
    """``json`` as the ``tokenizers`` library reads it; ``ignore_merges``: a word that is a token is not split."""

    json: Json
    ignore_merges: bool = False


def byte_level(*, use_regex: bool, add_prefix_space: bool = False) -> Json:
    """Bytes as printable characters; with ``use_regex`` the text is cut into GPT-2's words before."""
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}


def _sequence(*steps: Json) -> Json:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def _split(pattern: str) -> Json:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


_PRETOKENIZERS: Mapping[str, Pretokenizer] = MappingProxyType(
    {
        # What llama.cpp does for a file that names no pre-tokenizer of its own.
        "default": Pretokenizer(
            _sequence(
                _split(r"[\p{P}\$\+<=>\^~\|]+"),
                _split(_GPT2_WORD.removesuffix(r"|\s+")),
                _split(r"\p{N}+"),
                _split(r"[0-9][0-9][0-9]"),
                byte_level(use_regex=False),
            )
        ),
        "gpt-2": Pretokenizer(byte_level(use_regex=True)),
        "llama-bpe": Pretokenizer(_sequence(_split(_LLAMA3_WORD), byte_level(use_regex=False)), ignore_merges=True),
        "qwen2": Pretokenizer(_sequence(_split(_QWEN2_WORD), byte_level(use_regex=False))),
        "smollm": Pretokenizer(_sequence({"type": "Digits", "individual_digits": True}, byte_level(use_regex=True))),
    }
)


def pretokenizer_of_gguf(name: str) -> Pretokenizer:
    """The pre-tokenizer called ``name``. Raises UnsupportedModel for an unknown one."""
    if name not in _PRETOKENIZERS:
        known = ", ".join(sorted(_PRETOKENIZERS))
        raise UnsupportedModel(f"tokenizer.ggml.pre: expected one of {known}, got {name!r}", param="model")
    return _PRETOKENIZERS[name]
