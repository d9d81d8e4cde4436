"""Few entries of a vocabulary split a text as all of them do."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_ai.text import splitter, tokenizer_cache
from lepton_ai.text.splitter import IndexedSplitter, WholeSplitter
from lepton_ai.text.tokenizer import Tokenizer, _well_formed

from .conftest import FakeMetadata, tiny_metadata
from .test_sentencepiece import metadata as sentencepiece_metadata

Pair = tuple[IndexedSplitter, WholeSplitter]


def split_by(metadata: FakeMetadata, folder: Path) -> Pair:
    Tokenizer.from_metadata(metadata, cache_dir=folder, cache_key="key")
    stored = tokenizer_cache.load(tokenizer_cache.cache_path(folder, "key"))
    assert stored is not None
    indexed = stored.splitter()
    assert isinstance(indexed, IndexedSplitter)
    return indexed, WholeSplitter(stored.splitter_json())


@pytest.fixture(scope="module")
def smollm2_pair(smollm2_metadata: FakeMetadata, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return split_by(smollm2_metadata, tmp_path_factory.mktemp("smollm2"))


@pytest.fixture(scope="module", params=[tiny_metadata(), sentencepiece_metadata()], ids=["byte level", "sentencepiece"])
def small_pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return split_by(request.param, tmp_path_factory.mktemp("small"))


def test_golden_strings(smollm2_pair: Pair, golden_strings: list[bytes]) -> None:
    few, whole = smollm2_pair
    num_left_to_all = 0
    for raw in golden_strings:
        text = _well_formed(raw)
        ids = few._encode_by_few(text) if text else []
        num_left_to_all += ids is None
        assert ids is None or ids == (whole.encode(text) if text else []), text
    assert num_left_to_all < len(golden_strings) / 100


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_any_text(smollm2_pair: Pair, text: str) -> None:
    few, whole = smollm2_pair
    assert few._encode_by_few(text) == whole.encode(text)


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet="abc <think>\n\u2581\u00e9", min_size=1, max_size=12))
def test_small_vocabularies(small_pair: Pair, text: str) -> None:
    few, whole = small_pair
    assert few._encode_by_few(text) == whole.encode(text)


def test_texts_of_ids(smollm2_pair: Pair) -> None:
    few, whole = smollm2_pair
    assert [few.token(i) for i in range(49152)] == [whole.token(i) for i in range(49152)]
    assert few.token(1 << 20) is None


def test_all_entries_are_loaded_when_there_is_more_to_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, whole = split_by(tiny_metadata(), tmp_path)
    monkeypatch.setattr(few, "_num_characters_left", 6)
    assert few.encode("abc") == few.encode("abc") == whole.encode("abc") and few._whole is None
    assert few.encode("abc") == whole.encode("abc")
    loaded = few._whole
    assert loaded is not None
    few.load()
    assert few._whole is loaded


def test_words_of_too_many_parts_are_left_to_all(smollm2_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    few, _ = smollm2_pair
    assert few._encode_by_few("aaaa aaaa") is not None
    monkeypatch.setattr(splitter, "_MOST_PARTS", 8)
    assert few._encode_by_few("aaaa aaaa") is None


def test_threads_load_all_entries_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, whole = split_by(tiny_metadata(), tmp_path)
    monkeypatch.setattr(few, "_num_characters_left", 0)
    read, num_reads = few._read_json, []

    def read_json() -> bytes:
        num_reads.append(1)
        return read()

    monkeypatch.setattr(few, "_read_json", read_json)
    results: list[list[int]] = []
    threads = [threading.Thread(target=lambda: results.append(few.encode("abc"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert results == [whole.encode("abc")] * 8 and len(num_reads) == 1
