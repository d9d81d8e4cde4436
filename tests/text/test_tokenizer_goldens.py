"""Ids against other engines, for 5,000 strings. The goldens come from scripts/make_tokenizer_goldens.py."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lepton_ai.config import Environment
from lepton_ai.text.tokenizer import Tokenizer

from .conftest import FakeMetadata, read_golden


def _well_formed(raw: bytes) -> str:
    text = raw.decode("utf-8", errors="surrogateescape")
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)


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


def _different(
    encode: Callable[[bytes], list[int]], strings: list[bytes], digests: str, ignore: bytes | None = None
) -> list[bytes]:
    """The strings whose ids have another CRC-32, as little-endian i32, than the golden row has."""
    assert len(digests) == 8 * len(strings) == 40_000
    found = []
    for index, raw in enumerate(strings):
        ids = encode(raw)
        expected = digests[8 * index : 8 * index + 8]
        is_ignored = ignore is not None and ignore in raw
        if not is_ignored and f"{zlib.crc32(struct.pack(f'<{len(ids)}i', *ids)):08x}" != expected:
            found.append(raw)
    return found


@pytest.mark.parametrize("name", ["default", "gpt-2", "llama-bpe"])
def test_pretokenizers(smollm2_metadata: FakeMetadata, golden_strings: list[bytes], name: str) -> None:
    tokenizer = Tokenizer.from_metadata(FakeMetadata({**smollm2_metadata.values, "tokenizer.ggml.pre": name}))
    digests = read_golden("pretokenizers")[name]
    assert _different(lambda raw: tokenizer.encode(raw, add_special_tokens=False), golden_strings, digests) == []


@pytest.fixture(scope="module")
def minilm() -> Tokenizer:
    """all-MiniLM-L6-v2's vocabulary as llama.cpp's converter writes it."""
    tokens = read_golden("minilm_ids")["tokens"]
    is_control = [text in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") for text in tokens]
    marked = [
        text if control else text[2:] if text.startswith("##") and text != "##" else f"▁{text}"
        for text, control in zip(tokens, is_control, strict=True)
    ]
    types = [3 if control else 1 for control in is_control]
    values = {"model": "bert", "tokens": marked, "token_type": types}
    return Tokenizer.from_metadata(FakeMetadata({f"tokenizer.ggml.{name}": value for name, value in values.items()}))


def test_minilm(minilm: Tokenizer, golden_strings: list[bytes]) -> None:
    golden = read_golden("minilm_ids")
    assert _different(minilm.encode, golden_strings, golden["plain"]) == []
    for index, (ids, types) in enumerate(golden["pairs"]):
        pair = minilm.encode_pair(golden_strings[2 * index], golden_strings[2 * index + 1])
        assert [pair.ids, pair.token_type_ids] == [ids, types]


@pytest.mark.large
def test_gemma3(golden_strings: list[bytes], tmp_path: Path) -> None:
    from lepton_ai.weights.gguf import GGUFFile

    path = os.environ.get("LEPTON_TEST_GEMMA3")
    if path is None:
        pytest.skip("LEPTON_TEST_GEMMA3 names no GGUF file of Gemma 3 270M")
    file = GGUFFile(Path(path), tmp_path)
    made = Tokenizer.from_metadata(file.metadata, cache_dir=tmp_path, cache_key="gemma3")
    tokenizer = Tokenizer.from_metadata(file.metadata, cache_dir=tmp_path, cache_key="gemma3")
    file.close()
    assert made.vocab_size == tokenizer.vocab_size == 262_144
    assert tokenizer.encode("Hello")[:1] == [tokenizer.bos_id]
    # "</s>" is an HTML tag of Gemma's vocabulary, which llama.cpp takes for a control token by its looks.
    golden = read_golden("gemma3_ids")
    plain = golden["plain"]
    assert _different(lambda raw: tokenizer.encode(raw, add_special_tokens=False), golden_strings, plain, b"</s>") == []

    def with_controls(raw: bytes) -> list[int]:
        text = raw.decode("utf-8", errors="surrogateescape")
        return tokenizer.encode_with_controls(text, add_special_tokens=False)

    assert _different(with_controls, golden_strings, golden["with_controls"]) == []
    assert all(tokenizer.decode(tokenizer.encode(raw)) == _well_formed(raw) for raw in golden_strings)


def test_minilm_of_a_folder(golden_strings: list[bytes], tmp_path: Path) -> None:
    golden = read_golden("minilm_ids")
    (tmp_path / "vocab.txt").write_text("\n".join(golden["tokens"]) + "\n", encoding="utf-8")
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert _different(tokenizer.encode, golden_strings, golden["plain"]) == []
