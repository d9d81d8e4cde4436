"""The older files of GPT-2 and BERT as what a ``tokenizer.json`` would say."""

from __future__ import annotations

from collections.abc import Mapping

from lepton_ai.errors import InvalidModel
from lepton_ai.text.pretokenizer import byte_level
from lepton_ai.text.untrusted_json import Fields, parse_object
from lepton_ai.text.vocabulary import MAX_TOKENS, Json, bpe_model
from lepton_ai.text.wordpiece import bert_normalizer

GPT2_ROLES: Mapping[str, str] = dict.fromkeys(("bos", "eos", "unk"), "<|endoftext|>")
BERT_ROLES: Mapping[str, str] = {role: f"[{role.upper()}]" for role in ("unk", "sep", "pad", "cls", "mask")}


def gpt2_file(vocab: bytes, merges: bytes, roles: Mapping[str, str], config: Fields) -> Json:
    """``vocab.json`` and ``merges.txt``: byte-level BPE with GPT-2's words."""
    entries = parse_object(vocab, "vocab.json")
    ids = {text: entries.take(text, int) for text in entries.names()}
    lines = _lines(merges, "merges.txt")
    # The first line tells the version; a merge may begin with a # too.
    pairs = [line for line in lines[lines[:1] != [] and lines[0].startswith("#version") :] if line]
    return {
        "added_tokens": _special(roles, ids),
        "pre_tokenizer": byte_level(use_regex=True, add_prefix_space=config.take("add_prefix_space", bool, False)),
        "decoder": {"type": "ByteLevel"},
        "model": bpe_model(ids, pairs),
    }


def bert_file(vocab: bytes, roles: Mapping[str, str], config: Fields) -> Json:
    """``vocab.txt``, one piece a line, with the options of BERT's tokenizer from ``tokenizer_config.json``."""
    lines = _lines(vocab, "vocab.txt")
    ids = {text: token_id for token_id, text in enumerate(lines)}
    if len(ids) != len(lines):
        raise InvalidModel("vocab.txt: expected distinct pieces, one stands there twice", param="model")
    missing = [role for role in ("cls", "sep", "unk") if roles.get(role) not in ids]
    if missing:
        raise InvalidModel(f"vocab.txt: expected a {missing[0]} token, got none", param="model")
    ends = {role: [roles[role], ids[roles[role]]] for role in ("cls", "sep")}
    return {
        "added_tokens": _special(roles, ids),
        "normalizer": bert_normalizer(
            lowercase=config.take("do_lower_case", bool, True),
            strip_accents=config.take("strip_accents", bool) if "strip_accents" in config else None,
            chinese=config.take("tokenize_chinese_chars", bool, True),
        ),
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", **ends},
        "decoder": {"type": "WordPiece"},
        "model": {"type": "WordPiece", "vocab": ids, "unk_token": roles["unk"]},
    }


def _special(roles: Mapping[str, str], ids: Mapping[str, int]) -> list[Json]:
    texts = dict.fromkeys(text for text in roles.values() if text in ids)
    return [{"id": ids[text], "content": text, "special": True} for text in texts]


def _lines(data: bytes, label: str) -> list[str]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidModel(f"{label}: expected UTF-8, got what fails: {error}", param="model") from None
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if len(lines) > 2 * MAX_TOKENS:
        raise InvalidModel(f"{label}: expected up to {2 * MAX_TOKENS} lines, got {len(lines)}", param="model")
    return lines
