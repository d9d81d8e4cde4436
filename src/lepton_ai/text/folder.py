"""The tokenizer files of a Hugging Face folder: read within bounds, and as a vocabulary."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from lepton_ai.errors import InvalidModel, ModelNotFound, UnsupportedModel
from lepton_ai.text.hf_components import check_normalizer, check_pre_tokenizer, read_spelling
from lepton_ai.text.hf_legacy import BERT_ROLES, GPT2_ROLES, bert_file, gpt2_file
from lepton_ai.text.hf_model import model_json, read_model
from lepton_ai.text.hf_special import AddedTokens, find_roles, read_added, read_frame, read_role_texts, with_bos_and_eos
from lepton_ai.text.untrusted_json import Fields, parse_object
from lepton_ai.text.vocabulary import SpecialTokens, Vocabulary, end_ids, splitter_json
from lepton_ai.weights.files import open_regular

_MAX_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "tokenizer.json": 1 << 27,
        "vocab.json": 1 << 26,
        "merges.txt": 1 << 26,
        "vocab.txt": 1 << 26,
        "tokenizer_config.json": 1 << 24,
        "special_tokens_map.json": 1 << 20,
        "chat_template.jinja": 1 << 20,
    }
)
"""The files that are read, and how long each may be."""


def read_files(folder: Path) -> dict[str, bytes]:
    """The tokenizer files of ``folder`` by name.

    Raises ModelNotFound for a folder that is not there, UnsupportedModel for one without a tokenizer of a kind that is
    read, InvalidModel for a file that is too long.
    """
    if not folder.is_dir():
        raise ModelNotFound(f"{folder}: expected a folder, got none", param="model")
    files = {name: _read(folder / name, limit) for name, limit in _MAX_BYTES.items() if (folder / name).exists()}
    if not files.keys() & {"tokenizer.json", "vocab.txt"} and not {"vocab.json", "merges.txt"} <= files.keys():
        raise UnsupportedModel(
            f"{folder}: expected a folder with tokenizer.json, vocab.json and merges.txt, or vocab.txt, got none",
            param="model",
        )
    return files


def digest(files: Mapping[str, bytes]) -> str:
    """A key of the cache: what the files say, and which they are."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name} {len(files[name])}\n".encode())
        total.update(files[name])
    return total.hexdigest()


def vocabulary_of(files: Mapping[str, bytes]) -> Vocabulary:
    """The vocabulary that the files of a folder describe. Raises InvalidModel or UnsupportedModel, naming the field."""
    config = _config(files, "tokenizer_config.json")
    texts = read_role_texts([config, _config(files, "special_tokens_map.json")])
    file = _tokenizer_file(files, texts, config)
    model = read_model(file)
    if model.unknown is not None:
        texts["unk"] = model.unknown
    added = read_added(file, texts.values())
    ids = _all_ids(file, model.vocab, added)
    roles = find_roles(texts, ids)
    added.control.update({text: ids[text] for text in texts.values()})
    frame = with_bos_and_eos(read_frame(file, frozenset(added.control.values())), config, roles)
    spelling, drops_space = read_spelling(file)
    special = SpecialTokens(
        vocab_size=max(ids.values()) + 1,
        control_tokens=added.control,
        user_defined=added.user_defined,
        unspelled_id=None,
        role_ids=roles,
        eos_token_ids=end_ids(added.control, [roles.get("eos")]),
        frame=frame,
        spelling=spelling,
        drops_space=drops_space,
    )
    splitter = splitter_json(
        model_json(model, added),
        added=added.user_defined_json,
        normalizer=check_normalizer(file),
        pre_tokenizer=check_pre_tokenizer(file),
    )
    # A length to cut or fill to is the caller's business here.
    for name in ("version", "truncation", "padding"):
        file.take_any(name)
    file.refuse_rest()
    return Vocabulary(special, splitter, _chat_template(files, config))


def _all_ids(file: Fields, vocab: Mapping[str, int], added: AddedTokens) -> dict[str, int]:
    """The ids of all tokens by text. An id with two texts would let one of them stand for a control token."""
    both = added.user_defined | added.control
    ids = {**vocab, **both}
    if len(set(ids.values())) != len(ids) or any(vocab.get(text, both[text]) != both[text] for text in both):
        raise file.wrong("added tokens with the ids that the vocabulary gives them, or new ones", "others")
    return ids


def _tokenizer_file(files: Mapping[str, bytes], texts: dict[str, str], config: Fields) -> Fields:
    """``tokenizer.json``, or what it would say; ``texts`` then gets the roles that the configuration leaves out."""
    if "tokenizer.json" in files:
        return parse_object(files["tokenizer.json"], "tokenizer.json")
    if "added_tokens_decoder" in config:
        raise UnsupportedModel("tokenizer_config.json: added_tokens_decoder: expected a tokenizer.json", param="model")
    if "vocab.txt" in files:
        texts.update({**BERT_ROLES, **texts})
        return Fields(bert_file(files["vocab.txt"], texts, config), "vocab.txt")
    texts.update({**GPT2_ROLES, **texts})
    return Fields(gpt2_file(files["vocab.json"], files["merges.txt"], texts, config), "vocab.json")


def _config(files: Mapping[str, bytes], name: str) -> Fields:
    return parse_object(files.get(name, b"{}"), name)


def _chat_template(files: Mapping[str, bytes], config: Fields) -> str | None:
    if "chat_template.jinja" in files:
        try:
            return files["chat_template.jinja"].decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidModel(f"chat_template.jinja: expected UTF-8, got what fails: {error}", param="model") from None
    value = config.take_any("chat_template")
    if isinstance(value, list):
        named = [Fields(entry, f"{config.label}: chat_template {index}") for index, entry in enumerate(value)]
        by_name = {entry.take("name", str): entry.take("template", str) for entry in named}
        value = by_name.get("default")
    return Fields({"chat_template": value}, config.label).take("chat_template", str) if value is not None else None


def _read(path: Path, limit: int) -> bytes:
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise InvalidModel(f"{path}: expected up to {limit} bytes, got {size}", param="model")
        return file.readall()
