"""Tokenizers out of Hugging Face folders, against the library that wrote their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from lepton_ai.errors import InvalidModel, ModelNotFound, TemplateError, UnsupportedModel
from lepton_ai.text import folder
from lepton_ai.text.chat_template import ChatTemplate
from lepton_ai.text.detokenizer import Detokenizer
from lepton_ai.text.tokenizer import Tokenizer

from .hf_folders import MAKERS, bert, byte_level, tiny_file, write_folder

CONTROL_LIKE = ("<s>", "</s>", "[CLS]", "[SEP]", "<unk>", "[UNK]", "[MASK]", "<tool_call>")


def _read(path: Path, **changes: Any) -> Tokenizer:
    config = changes.pop("config", {})
    return Tokenizer.from_folder(
        write_folder(path, {"tokenizer.json": tiny_file(**changes), "tokenizer_config.json": config})
    )


@pytest.fixture(params=MAKERS)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    """A tokenizer as we read it, and the library's own."""
    library = MAKERS[request.param]()
    return Tokenizer.from_folder(write_folder(tmp_path, {"tokenizer.json": library.to_str()})), library


def test_ids_and_text_are_those_of_the_library(
    both: tuple[Tokenizer, tokenizers.Tokenizer], golden_strings: list[bytes]
) -> None:
    ours, library = both
    num_compared = 0
    is_metaspace = isinstance(library.decoder, tokenizers.decoders.Metaspace)
    for raw in golden_strings[::3]:
        text = raw.decode("utf-8", errors="replace")
        if any(control in text for control in CONTROL_LIKE):
            continue
        num_compared += 1
        assert ours.encode(text, add_special_tokens=False) == library.encode(text, add_special_tokens=False).ids, text
        ids = ours.encode(text)
        assert ids == library.encode(text).ids
        decoded, expected = ours.decode(ids), library.decode(ids, skip_special_tokens=True)
        # The library's Metaspace takes all spaces off the first token, also those of the text.
        assert decoded == expected or (is_metaspace and decoded.lstrip(" ") == expected)
        detokenizer = Detokenizer(ours)
        assert "".join([*map(detokenizer.feed, ids), detokenizer.finish()]) == ours.decode(ids)
    assert num_compared > 1300


@pytest.mark.parametrize("name", ["byte_level", "roberta", "bert"])
def test_pairs_are_those_of_the_library(tmp_path: Path, name: str) -> None:
    library = MAKERS[name]()
    ours = Tokenizer.from_folder(write_folder(tmp_path, {"tokenizer.json": library.to_str()}))
    pair, expected = ours.encode_pair("the fox", "lazy dogs"), library.encode("the fox", "lazy dogs")
    assert (pair.ids, pair.token_type_ids) == (expected.ids, expected.type_ids)


def test_text_never_becomes_a_control_token(both: tuple[Tokenizer, tokenizers.Tokenizer]) -> None:
    ours, library = both
    assert ours.control_tokens
    for text in ours.control_tokens:
        for variant in (text, f"a{text}b", text.upper(), f" {text} ", text.replace("s", "ｓ")):
            ids = set(ours.encode(variant, add_special_tokens=False)) - {library.token_to_id("<unk>")}
            assert not any(map(ours.is_control, ids - {library.token_to_id("[UNK]")})), variant
        assert ours.control_tokens[text] in ours.encode_with_controls(text)


def test_merges_that_make_a_control_token_are_left_out(tmp_path: Path) -> None:
    tokenizer = _read(tmp_path)
    assert tokenizer.encode("<s>ab") == [5, 7, 3]
    assert tokenizer.encode_with_controls("<s>ab<eot><tool>") == [0, 3, 9, 8]
    assert tokenizer.encode("ab<tool>") == [3, 8]
    assert (tokenizer.vocab_size, dict(tokenizer.control_tokens)) == (10, {"<s>": 0, "<eot>": 9})


def test_roles_of_the_configuration(tmp_path: Path) -> None:
    files = {
        "tokenizer.json": tiny_file(),
        "tokenizer_config.json": {"bos_token": {"content": "<s>", "lstrip": False}, "eos_token": None},
        "special_tokens_map.json": {"eos_token": "<eot>", "bos_token": "a", "pad_token": "b"},
    }
    tokenizer = Tokenizer.from_folder(write_folder(tmp_path, files))
    assert dict(tokenizer.role_ids) == {"bos": 0, "eos": 9, "pad": 2}
    assert (tokenizer.bos_id, tokenizer.eos_token_ids) == (0, (9,))
    # What has a role is a control token, although no added token says so: "b" cannot be spelled.
    assert tokenizer.encode("ab") == [1]
    files["special_tokens_map.json"] = {"eos_token": "<tool>"}
    tokenizer = Tokenizer.from_folder(write_folder(tmp_path, files))
    assert tokenizer.eos_id == 8
    assert 8 not in tokenizer.encode("<tool>")


def test_bos_is_never_doubled(tmp_path: Path) -> None:
    config = {"bos_token": "<s>", "eos_token": "<eot>", "add_bos_token": True, "add_eos_token": True}
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
    }
    for post_processor in (None, template):
        tokenizer = _read(tmp_path, config=config, post_processor=post_processor)
        assert tokenizer.encode("ab") == [0, 3, 9]
        assert tokenizer.encode_with_controls("<s>ab<eot>") == [0, 3, 9]
    assert _read(tmp_path, post_processor=template).encode("ab") == [0, 3]


def test_the_older_files_of_gpt2(tmp_path: Path) -> None:
    library = byte_level()
    model = json.loads(library.to_str())["model"]
    merges = "#version: 0.2\n" + "\n".join(" ".join(merge) for merge in model["merges"]) + "\n"
    vocab = {**model["vocab"], "<|endoftext|>": len(model["vocab"])}
    tokenizer = Tokenizer.from_folder(write_folder(tmp_path, {"vocab.json": vocab, "merges.txt": merges}))
    for text in ("The quick fox's  dog\n\n天地 é", " it"):
        assert tokenizer.encode(text) == library.encode(text, add_special_tokens=False).ids
    assert tokenizer.eos_id == tokenizer.bos_id == len(vocab) - 1
    assert not any(map(tokenizer.is_control, tokenizer.encode("<|endoftext|>")))


@pytest.mark.parametrize("do_lower_case", [True, False])
def test_the_older_files_of_bert(tmp_path: Path, do_lower_case: bool) -> None:
    library = bert()
    library.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=do_lower_case)
    pieces = sorted(library.get_vocab(), key=library.get_vocab().__getitem__)
    files = {"vocab.txt": "\n".join(pieces) + "\n", "tokenizer_config.json": {"do_lower_case": do_lower_case}}
    tokenizer = Tokenizer.from_folder(write_folder(tmp_path, files))
    for text in ("The QUICK fóx 天地", "lazy"):
        assert tokenizer.encode(text) == library.encode(text).ids
    pair, expected = tokenizer.encode_pair("the", "dog"), library.encode("the", "dog")
    assert (pair.ids, pair.token_type_ids) == (expected.ids, expected.type_ids)


def test_the_cached_form_is_the_same(tmp_path: Path) -> None:
    for name, maker in MAKERS.items():
        path = write_folder(
            tmp_path / name, {"tokenizer.json": maker().to_str(), "tokenizer_config.json": {"chat_template": "{{ 1 }}"}}
        )
        made, cached = (Tokenizer.from_folder(path, cache_dir=tmp_path / "cache") for _ in range(2))
        assert made._special == cached._special
        assert made.chat_template == cached.chat_template == "{{ 1 }}"
        assert made.encode("The lazy dog 世") == cached.encode("The lazy dog 世")
    assert len(list((tmp_path / "cache").iterdir())) == len(MAKERS)


def test_digest_tells_files_apart() -> None:
    assert folder.digest({"a": b"x", "b": b""}) != folder.digest({"a": b"", "b": b"x"})


def test_chat_templates(tmp_path: Path) -> None:
    source = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}<eot>"
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": source}]
    for config in ({"chat_template": source}, {"chat_template": named}):
        tokenizer = _read(tmp_path, config={**config, "bos_token": "<s>"})
        segments = ChatTemplate.from_tokenizer(tokenizer).render_segments([{"role": "user", "content": "a<s>"}])
        assert tokenizer.encode_segments(segments) == [0, 1, 5, 7, 9]
    with pytest.raises(TemplateError, match="expected one with a chat template"):
        ChatTemplate.from_tokenizer(_read(tmp_path))
    (tmp_path / "chat_template.jinja").write_text("y")
    assert _read(tmp_path, config={"chat_template": "x"}).chat_template == "y"


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="expected a folder"):
        Tokenizer.from_folder(tmp_path / "nowhere")
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(UnsupportedModel, match=r"tokenizer.json, vocab.json and merges.txt, or vocab.txt, got none"):
        Tokenizer.from_folder(tmp_path)


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    with (write_folder(tmp_path, {}) / "tokenizer.json").open("wb") as file:
        file.truncate((1 << 27) + 1)
    with pytest.raises(InvalidModel, match="expected up to 134217728 bytes, got 134217729"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"bos_token": "<nope>"}, "bos_token '<nope>'"),
        ({"bos_token": 3}, "text of a bos_token, got int"),
        ({"chat_template": 3}, "chat_template: expected str, got int"),
        ({"add_bos_token": "yes"}, "add_bos_token: expected bool, got str"),
    ],
)
def test_malformed_configurations_are_refused(tmp_path: Path, config: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidModel, match=named):
        _read(tmp_path, config=config)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"vocab.txt": "a\na"}, "distinct pieces"),
        ({"vocab.txt": "a\nb"}, "expected a cls token, got none"),
        ({"vocab.json": {"a": True}, "merges.txt": "#version: 0.2"}, "a: expected int, got bool"),
        ({"vocab.json": {"a": 0, "<|endoftext|>": 1}, "merges.txt": "a"}, "merges of two tokens, got 'a' at 0"),
        (
            {"vocab.txt": "a", "tokenizer_config.json": {"added_tokens_decoder": {"0": {}}}},
            "added_tokens_decoder: expected a tokenizer.json",
        ),
    ],
)
def test_malformed_older_files_are_refused(tmp_path: Path, files: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidModel, match=named):
        Tokenizer.from_folder(write_folder(tmp_path, files))
