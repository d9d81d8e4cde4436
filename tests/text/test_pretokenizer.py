import pytest

from lepton_ai.errors import UnsupportedModel
from lepton_ai.text.pretokenizer import pretokenizer_of_gguf
from lepton_ai.text.tokenizer import Tokenizer

from .conftest import tiny_metadata


def _words(pretokenizer: str, text: str) -> int:
    """How many pieces of letters and digits stay apart, with a vocabulary that would merge any two."""
    tokens = ["a", "1", "aa", "11", "a1", "1a"]
    merges = ["a a", "1 1", "a 1", "1 a"]
    special = {"bos_token_id": None, "eos_token_id": None}
    metadata = tiny_metadata(pre=pretokenizer, tokens=tokens, token_type=[1] * 6, merges=merges, **special)
    return len(Tokenizer.from_metadata(metadata).encode(text))


@pytest.mark.parametrize("name", ["smollm", "qwen2"])
def test_digits_stay_single_and_apart_from_letters(name: str) -> None:
    assert _words(name, "aa") == 1
    assert _words(name, "11") == 2
    assert _words(name, "aa11") == 3
    assert _words(name, "1a") == 2


def test_unknown_name() -> None:
    with pytest.raises(
        UnsupportedModel, match="expected one of default, gpt-2, llama-bpe, qwen2, smollm, got 'deepseek-llm'"
    ):
        pretokenizer_of_gguf("deepseek-llm")
