import json
from typing import Any

import pytest

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.text.gguf_vocabulary import read_vocabulary
from lepton_ai.text.vocabulary import Frame

from .conftest import FakeMetadata, tiny_metadata


def test_special_tokens() -> None:
    special = read_vocabulary(tiny_metadata(eot_token_id=7, add_bos_token=True)).special
    assert special.vocab_size == 9
    assert special.control_tokens == {"<s>": 0, "</s>": 6}
    assert special.user_defined == {"<think>": 7}
    assert special.unspelled_id == 9
    assert (special.role_ids, special.eos_token_ids) == ({"bos": 0, "eos": 6}, (6, 7))
    assert special.frame == Frame(prefix=(0,))


def test_known_end_of_turn_tokens_stop_although_no_key_names_them() -> None:
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "<|eot_id|>"]
    metadata = tiny_metadata(tokens=tokens, token_type=[3, 3, 3, 1, 1], merges=[], bos_token_id=None, eos_token_id=None)
    # The last one is an ordinary token here, whatever it looks like.
    assert read_vocabulary(metadata).special.eos_token_ids == (0, 2)


def test_smollm2_and_its_ends(smollm2_metadata: FakeMetadata) -> None:
    special = read_vocabulary(smollm2_metadata).special
    assert (special.vocab_size, len(special.control_tokens), special.user_defined) == (49152, 17, {})
    assert (special.role_ids["bos"], special.eos_token_ids, special.frame) == (1, (0, 2), Frame())


def test_control_tokens_are_not_in_the_bpe() -> None:
    vocab = json.loads(read_vocabulary(tiny_metadata()).splitter_json)["model"]["vocab"]
    assert {"a", "ab", "abc", "<think>"} < set(vocab)
    assert not {"<s>", "</s>", "[PAD]"} & set(vocab)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": "t5"}, "tokenizer.ggml.model: expected one of gpt2, llama, bert, got 't5'"),
        (
            {"pre": "deepseek-llm"},
            "tokenizer.ggml.pre: expected one of default, gpt-2, llama-bpe, qwen2, smollm, got 'deepseek-llm'",
        ),
    ],
)
def test_other_kinds_are_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedModel, match=named):
        read_vocabulary(tiny_metadata(**changes))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": None}, "tokenizer.ggml.model"),
        ({"tokens": [], "token_type": []}, "expected 1 to"),
        ({"token_type": [3, 1]}, "expected 9 types, got 2"),
        ({"token_type": [3, 1, 1, 1, 1, 1, 3, 4, 9]}, "expected 1 to 6, got 9 at 8"),
        ({"tokens": ["<s>", "a", "a", "c", "ab", "abc", "</s>", "<think>", "[PAD]"]}, "stands there twice"),
        (
            {"tokens": ["<s>", "a", "b", "c", "a b", "abc", "</s>", "<think>", "[PAD]"]},
            "byte-level spelling, got 'a b'",
        ),
        ({"tokens": ["", "a", "b", "c", "ab", "abc", "</s>", "<think>", "[PAD]"]}, "an empty one"),
        ({"merges": ["ab"]}, "got 'ab' at 0"),
        ({"merges": ["a b", "a c"]}, "got 'a c' at 1"),
        ({"merges": ["x y"]}, "got 'x y' at 0"),
        ({"eos_token_id": 9}, "eos_token_id: expected an id below 9, got 9"),
        ({"bos_token_id": -1}, "bos_token_id: expected an id below 9, got -1"),
    ],
)
def test_malformed_metadata_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidModel, match=named):
        read_vocabulary(tiny_metadata(**changes))


def test_merge_that_makes_a_control_token_is_refused() -> None:
    tokens = ["<s>", "<", "s>", "</s>"]
    metadata = tiny_metadata(tokens=tokens, token_type=[3, 1, 1, 3], merges=["< s>"], eos_token_id=3)
    with pytest.raises(InvalidModel, match="merges"):
        read_vocabulary(metadata)
