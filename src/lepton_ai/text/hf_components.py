"""The parts of a ``tokenizer.json`` that prepare a text, checked: known types, known fields, bounded work.

The file is not trusted. A type or a field that is not in the tables here is refused by name; so is a regular
expression that is not a published one, as the engine backtracks, and a chain of replacements that makes a text grow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.text.pretokenizer import PUBLISHED_PATTERNS
from lepton_ai.text.spelling import CONTINUATION, WORD_START, Spelling
from lepton_ai.text.untrusted_json import Fields
from lepton_ai.text.vocabulary import Json

_MAX_STEPS = 16
_MAX_STRING = 64
_MAX_GROWTH = 64
"""How much longer a text may become. The published normalisers make a space of one byte a ``▁`` of three."""

_Checker: TypeAlias = Callable[[Fields, str], object]


def _boolean(fields: Fields, name: str) -> object:
    return fields.take(name, bool)


def _string(fields: Fields, name: str) -> object:
    value = fields.take(name, str)
    if len(value) > _MAX_STRING:
        raise fields.wrong(f"{name} of up to {_MAX_STRING} characters", len(value))
    return value


def _one_of(*choices: str) -> _Checker:
    def check(fields: Fields, name: str) -> object:
        value = fields.take(name, str)
        if value not in choices:
            raise UnsupportedModel(
                f"{fields.label}: {name}: expected one of {', '.join(choices)}, got {value[:80]!r}", param="model"
            )
        return value

    return check


def _pattern(fields: Fields, name: str) -> object:
    """A non-empty string to find, or a published regular expression."""
    pattern = fields.take_fields(name)
    if "Regex" in pattern:
        checked: Json = {"Regex": pattern.take("Regex", str)}
        if checked["Regex"] not in PUBLISHED_PATTERNS:
            raise UnsupportedModel(
                f"{pattern.label}: expected a published regular expression, got {str(checked['Regex'])[:200]!r}",
                param="model",
            )
    else:
        checked = {"String": _string(pattern, "String")}
        if not checked["String"]:
            raise pattern.wrong("a string to find", "an empty one")
    pattern.refuse_rest()
    return checked


_BEHAVIORS = _one_of("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous")

_NORMALIZERS: Mapping[str, Mapping[str, _Checker]] = MappingProxyType(
    {
        **{name: {} for name in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents")},
        "Strip": {"strip_left": _boolean, "strip_right": _boolean},
        "BertNormalizer": dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), _boolean),
        "Prepend": {"prepend": _string},
        "Replace": {"pattern": _pattern, "content": _string},
    }
)

_PRE_TOKENIZERS: Mapping[str, Mapping[str, _Checker]] = MappingProxyType(
    {
        **{name: {} for name in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")},
        "ByteLevel": dict.fromkeys(("add_prefix_space", "trim_offsets", "use_regex"), _boolean),
        "Digits": {"individual_digits": _boolean},
        "Punctuation": {"behavior": _BEHAVIORS},
        "Split": {"pattern": _pattern, "behavior": _BEHAVIORS, "invert": _boolean},
        "Metaspace": {
            "replacement": _one_of(WORD_START),
            # Under "first" a text's prefix would depend on what stands before it.
            "prepend_scheme": _one_of("always", "never"),
            "add_prefix_space": _boolean,
            "split": _boolean,
        },
    }
)


def check_normalizer(file: Fields) -> Json | None:
    """The normaliser of a file. Raises UnsupportedModel for an unknown one, InvalidModel for a malformed one."""
    steps = _check(file, "normalizer", "normalizers", _NORMALIZERS)
    growth = 1
    for step in steps:
        growth *= _growth(step)
    if growth > _MAX_GROWTH:
        raise file.wrong(f"a normalizer that makes a text up to {_MAX_GROWTH} times longer", f"{growth} times")
    return _joined(steps, "normalizers")


def check_pre_tokenizer(file: Fields) -> Json | None:
    """The pre-tokenizer of a file. Raises like ``check_normalizer``."""
    return _joined(_check(file, "pre_tokenizer", "pretokenizers", _PRE_TOKENIZERS), "pretokenizers")


def read_spelling(file: Fields) -> tuple[Spelling, bool]:
    """How the decoder of a file spells tokens, and whether it drops the space before a text.

    One space is dropped, also where the library's Metaspace drops all that a text begins with. WordPiece's
    ``cleanup``, which takes spaces from before punctuation, is a matter of taste and is not applied.
    """
    steps = _decoder_steps(file)
    types = [step.take("type", str) for step in steps]
    if types == ["ByteLevel"]:
        return Spelling.BYTE_LEVEL, False
    if types == ["WordPiece"]:
        if steps[0].take("prefix", str, CONTINUATION) != CONTINUATION:
            raise UnsupportedModel(f"{steps[0].label}: prefix: expected {CONTINUATION}", param="model")
        return Spelling.WORDPIECE, True
    if types == ["Metaspace"]:
        return Spelling.SENTENCEPIECE, steps[0].take("prepend_scheme", str, "always") != "never"
    if types in (["Replace", "ByteFallback", "Fuse"], ["Replace", "ByteFallback", "Fuse", "Strip"]):
        if steps[0].take_any("pattern") != {"String": WORD_START} or steps[0].take_any("content") != " ":
            raise UnsupportedModel(f"{steps[0].label}: expected {WORD_START} replaced by a space", param="model")
        if len(steps) == 4 and [steps[3].take_any(name) for name in ("content", "start", "stop")] != [" ", 1, 0]:
            raise UnsupportedModel(f"{steps[3].label}: expected one space off the beginning", param="model")
        return Spelling.SENTENCEPIECE, len(steps) == 4
    raise UnsupportedModel(
        f"{file.label}: decoder: expected ByteLevel, WordPiece, Metaspace, or Replace with ByteFallback and Fuse, "
        f"got {', '.join(types)[:200] or 'none'}",
        param="model",
    )


def _decoder_steps(file: Fields) -> list[Fields]:
    if "decoder" not in file:
        return []
    decoder = file.take_fields("decoder")
    if "decoders" not in decoder:
        return [decoder]
    steps = decoder.take("decoders", list)
    return [Fields(step, f"{decoder.label} {i}") for i, step in enumerate(steps[: _MAX_STEPS + 1])]


def _check(file: Fields, name: str, list_name: str, table: Mapping[str, Mapping[str, _Checker]]) -> list[Json]:
    """The steps of a component, flat, each with the fields that its type has."""
    if name not in file:
        return []
    waiting = [file.take_fields(name)]
    checked: list[Json] = []
    while waiting:
        step = waiting.pop(0)
        kind = step.take("type", str)
        if kind == "Sequence":
            steps = step.take(list_name, list)[: _MAX_STEPS + 1]
            waiting = [*(Fields(value, f"{step.label} {i}") for i, value in enumerate(steps)), *waiting]
        elif kind in table:
            fields = {field: check(step, field) for field, check in table[kind].items() if field in step}
            _drop_nulls(step, table[kind])
            checked.append({"type": kind, **fields})
        else:
            known = ", ".join(sorted(table))
            raise UnsupportedModel(f"{step.label}: expected one of {known}, got {kind[:80]!r}", param="model")
        step.refuse_rest()
        if len(checked) + len(waiting) > _MAX_STEPS:
            raise step.wrong(f"up to {_MAX_STEPS} steps", "more")
    return checked


def _drop_nulls(step: Fields, known: Mapping[str, _Checker]) -> None:
    for field in known:
        step.take_any(field)


def _growth(step: Json) -> int:
    if step["type"] == "Prepend":
        return 1 + len(str(step.get("prepend", "")).encode("utf-8")) // 8
    if step["type"] != "Replace":
        return 1
    content, pattern = step.get("content"), step.get("pattern")
    if not isinstance(content, str) or not isinstance(pattern, dict):
        raise InvalidModel("tokenizer.json: normalizer: expected a Replace with pattern and content", param="model")
    found = len(pattern.get("String", "x"))
    return max(1, -(-len(content) // found))


def _joined(steps: list[Json], list_name: str) -> Json | None:
    if not steps:
        return None
    return steps[0] if len(steps) == 1 else {"type": "Sequence", list_name: steps}
