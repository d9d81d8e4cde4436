"""Ids against llama.cpp, for 5,000 strings. The goldens come from scripts/make_tokenizer_goldens.py."""

from __future__ import annotations

from typing import Any

import pytest

from lepton_ai.config import Environment
from lepton_ai.text.tokenizer import Tokenizer

from .conftest import read_golden


def _differences(tokenizer: Tokenizer, strings: list[bytes], golden: dict[str, Any], ignore: bytes | None) -> list[str]:
    found = []
    for index, raw in enumerate(strings):
        plain = golden["plain"][index]
        if tokenizer.encode(raw, add_special_tokens=False) != plain:
            found.append(f"{index} plain: {raw!r}")
        if ignore is not None and ignore in raw:
            continue
        text = raw.decode("utf-8", errors="surrogateescape")
        expected = golden["with_controls"].get(str(index), plain)
        if tokenizer.encode_with_controls(text, add_special_tokens=False) != expected:
            found.append(f"{index} with controls: {raw!r}")
    return found


def test_smollm2(smollm2: Tokenizer, golden_strings: list[bytes]) -> None:
    golden = read_golden("smollm2_ids")
    assert len(golden_strings) == len(golden["plain"]) == 5000
    assert len(golden["with_controls"]) > 200
    assert _differences(smollm2, golden_strings, golden, ignore=None) == []


@pytest.mark.large
def test_qwen2(golden_strings: list[bytes]) -> None:
    from lepton_ai.weights.gguf import GGUFFile
    from lepton_ai.weights.sources.resolve import resolve

    environment = Environment.read()
    file = GGUFFile(resolve("qwen2.5-coder-0.5b", environment), environment.home)
    tokenizer = Tokenizer.from_metadata(file.metadata)
    file.close()
    # "</s>" is an ordinary token of Qwen's vocabulary, which BPE does not reach from the text "</s>". llama.cpp takes
    # it for a control token by its looks; Qwen's own tokenizer does not, and nor do we.
    assert _differences(tokenizer, golden_strings, read_golden("qwen2_ids"), ignore=b"</s>") == []
    assert 128247 not in tokenizer.encode_with_controls("</s>")
    assert tokenizer.eos_token_ids == (151643, 151645)
