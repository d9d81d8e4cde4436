"""Special tokens of a Hugging Face folder: added tokens, the roles that the configuration names, what is put around."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.text.untrusted_json import Fields
from lepton_ai.text.vocabulary import MAX_TOKENS, Frame, Json
from lepton_ai.text.wordpiece import pair_frame

ROLES = ("bos", "eos", "unk", "pad", "cls", "sep", "mask")

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")
_MAX_AFFIX = 8
_MAX_ADDED = 1 << 16
_MAX_TEXT = 512


@dataclass(frozen=True, slots=True)
class AddedTokens:
    """Control tokens by text, and the others, which are found in text, with the flags that say where."""

    control: dict[str, int]
    user_defined: dict[str, int]
    user_defined_json: list[Json]


def read_added(file: Fields, role_texts: Collection[str] = ()) -> AddedTokens:
    """``added_tokens`` of a file: those with ``special`` or a role are control tokens. Raises InvalidModel.

    The flags of a control token say where text is searched for it, which is never done, and are not kept.
    """
    entries = file.take("added_tokens", list, [])
    if len(entries) > _MAX_ADDED:
        raise file.wrong(f"up to {_MAX_ADDED} added tokens", len(entries))
    added = AddedTokens({}, {}, [])
    seen: set[int] = set()
    for index, entry in enumerate(entries):
        fields = Fields(entry, f"{file.label}: added_tokens {index}")
        text, token_id = fields.take("content", str), fields.take("id", int)
        if not 0 < len(text) <= _MAX_TEXT or not 0 <= token_id < MAX_TOKENS:
            raise fields.wrong(f"1 to {_MAX_TEXT} characters and an id below {MAX_TOKENS}", token_id)
        if text in added.control or text in added.user_defined or token_id in seen:
            raise fields.wrong("distinct tokens", f"{text!r} or its id twice")
        seen.add(token_id)
        flags = {name: fields.take(name, bool, False) for name in _FLAGS}
        if fields.take("special", bool, False) or text in role_texts:
            added.control[text] = token_id
        else:
            added.user_defined[text] = token_id
            added.user_defined_json.append({"id": token_id, "content": text, **flags, "special": False})
        fields.refuse_rest()
    return added


def read_role_texts(configs: Sequence[Fields]) -> dict[str, str]:
    """The text of each role's token; an earlier file counts before a later one."""
    texts: dict[str, str] = {}
    for config in configs:
        for role in ROLES:
            value = config.take_any(f"{role}_token")
            if isinstance(value, dict):
                value = Fields(value, f"{config.label}: {role}_token").take("content", str)
            if value is None:
                continue
            if not isinstance(value, str) or not value:
                raise config.wrong(f"the text of a {role}_token", type(value).__name__)
            texts.setdefault(role, value)
    return texts


def find_roles(texts: Mapping[str, str], ids: Mapping[str, int]) -> dict[str, int]:
    """The id of each role. Raises InvalidModel for a token that ``ids``, all of the tokenizer's, does not have."""
    missing = [f"{role}_token {text[:80]!r}" for role, text in texts.items() if text not in ids]
    if missing:
        raise InvalidModel(f"tokenizer_config.json: expected tokens of the vocabulary, got {missing[0]}", param="model")
    return {role: ids[text] for role, text in texts.items()}


def read_frame(file: Fields, control_ids: frozenset[int]) -> Frame:
    """What the post-processor of a file puts around texts. Raises UnsupportedModel for one that does otherwise."""
    if "post_processor" not in file:
        return Frame()
    post = file.take_fields("post_processor")
    steps = [post]
    if "processors" in post:
        values = post.take("processors", list)[: _MAX_AFFIX + 1]
        steps = [Fields(value, f"{post.label} {i}") for i, value in enumerate(values)]
    frames = [frame for step in steps if (frame := _frame_of(step)) is not None]
    if len(frames) > 1:
        raise UnsupportedModel(f"{post.label}: expected one template, got {len(frames)}", param="model")
    frame = frames[0] if frames else Frame()
    used = {*frame.prefix, *frame.suffix, *frame.pair_prefix, *(frame.middle or ())}
    used |= {*frame.second_prefix, *frame.pair_suffix}
    if not used <= control_ids:
        raise InvalidModel(f"{post.label}: expected control tokens, got the ids {used - control_ids}", param="model")
    return frame


def with_bos_and_eos(frame: Frame, config: Fields, roles: Mapping[str, int]) -> Frame:
    """``frame`` with the BOS and EOS that the configuration asks for, where it does not have them already."""
    bos, eos = roles.get("bos"), roles.get("eos")
    if config.take("add_bos_token", bool, False) and bos is not None and bos not in frame.prefix:
        frame = replace(frame, prefix=(bos, *frame.prefix))
    if config.take("add_eos_token", bool, False) and eos is not None and eos not in frame.suffix:
        frame = replace(frame, suffix=(*frame.suffix, eos))
    return frame


def _frame_of(step: Fields) -> Frame | None:
    kind = step.take("type", str)
    if kind == "ByteLevel":
        return None
    if kind in ("BertProcessing", "RobertaProcessing"):
        first, last = _named_id(step, "cls"), _named_id(step, "sep")
        frame = pair_frame(first, last)
        return frame if kind == "BertProcessing" else replace(frame, middle=(last, last), second_type=0)
    if kind != "TemplateProcessing":
        known = "BertProcessing, ByteLevel, RobertaProcessing, TemplateProcessing"
        raise UnsupportedModel(f"{step.label}: expected one of {known}, got {kind[:80]!r}", param="model")
    ids = _template_ids(step.take_fields("special_tokens"))
    single = _Template.read(step, "single", ids)
    pair = _Template.read(step, "pair", ids) if "pair" in step else None
    if single.texts != [("A", 0)] or any(kind for _, kind in single.around[0] + single.around[1]):
        raise UnsupportedModel(f"{step.label}: single: expected one text A, all of type 0", param="model")
    prefix, suffix = (tuple(i for i, _ in tokens) for tokens in single.around)
    frame = Frame(prefix, suffix)
    return frame if pair is None else _with_pair(frame, pair, step)


@dataclass(frozen=True, slots=True)
class _Template:
    """Texts and their types in order, and the tokens and their types before, between and after them."""

    texts: list[tuple[str, int]]
    around: list[list[tuple[int, int]]]

    @classmethod
    def read(cls, step: Fields, name: str, ids: Mapping[str, list[int]]) -> _Template:
        pieces = step.take(name, list)
        template = cls([], [[]])
        for index, piece in enumerate(pieces[: 4 * _MAX_AFFIX]):
            fields = Fields(piece, f"{step.label}: {name} {index}")
            is_text = "Sequence" in fields
            item = fields.take_fields("Sequence" if is_text else "SpecialToken")
            text, kind = item.take("id", str), item.take("type_id", int)
            if is_text:
                template.texts.append((text, kind))
                template.around.append([])
            elif text in ids:
                template.around[-1] += [(token_id, kind) for token_id in ids[text]]
            else:
                raise item.wrong("one of the template's special_tokens", repr(text[:80]))
        if len(pieces) > 4 * _MAX_AFFIX or any(len(tokens) > _MAX_AFFIX for tokens in template.around):
            raise step.wrong(f"{name} with up to {_MAX_AFFIX} tokens at a place", len(pieces))
        return template


def _with_pair(frame: Frame, pair: _Template, step: Fields) -> Frame:
    if [text for text, _ in pair.texts] != ["A", "B"]:
        raise UnsupportedModel(f"{step.label}: pair: expected the texts A and B in this order", param="model")
    second_type = pair.texts[1][1]
    before, between, after = pair.around
    num_first = next((n for n, (_, kind) in enumerate(between) if kind), len(between)) if second_type else len(between)
    first = [*before, *between[:num_first], pair.texts[0]]
    second = [*between[num_first:], *after]
    is_regular = all(kind == 0 for _, kind in first) and all(kind == second_type for _, kind in second)
    if not is_regular or second_type not in (0, 1):
        raise UnsupportedModel(f"{step.label}: pair: expected type 0, then one further type", param="model")
    return replace(
        frame,
        pair_prefix=tuple(i for i, _ in before),
        middle=tuple(i for i, _ in between[:num_first]),
        second_prefix=tuple(i for i, _ in between[num_first:]),
        pair_suffix=tuple(i for i, _ in after),
        second_type=second_type,
    )


def _template_ids(fields: Fields) -> dict[str, list[int]]:
    ids: dict[str, list[int]] = {}
    for name in fields.names()[: _MAX_AFFIX * 4]:
        entry = fields.take_fields(name)
        ids[name] = entry.take("ids", list)[: _MAX_AFFIX + 1]
        if not all(isinstance(token_id, int) for token_id in ids[name]):
            raise entry.wrong("integers as ids", "others")
    fields.refuse_rest()
    return ids


def _named_id(step: Fields, name: str) -> int:
    pair = step.take(name, list)
    if len(pair) != 2 or not isinstance(pair[1], int):
        raise step.wrong(f"{name} as a text and an id", repr(pair)[:80])
    return pair[1]
