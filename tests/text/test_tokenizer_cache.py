import os
import stat
from pathlib import Path

import pytest
from tests.engine.published import published_bert, write_files
from tests.engine.tiny_gguf import tiny_gguf

from lepton_ai.errors import InvalidModel, InvalidRequest
from lepton_ai.text import tokenizer_cache
from lepton_ai.text.gguf_vocabulary import read_vocabulary
from lepton_ai.text.tokenizer import Tokenizer

from .conftest import tiny_metadata


def test_round_trip(tmp_path: Path) -> None:
    vocabulary = read_vocabulary(tiny_metadata())
    path = tokenizer_cache.cache_path(tmp_path / "new" / "folder", "key")
    assert tokenizer_cache.store(path, vocabulary)
    stored = tokenizer_cache.load(path)
    assert stored is not None and stored.splitter_json() == vocabulary.splitter_json
    assert (stored.special, stored.chat_template) == (vocabulary.special, vocabulary.chat_template)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", [b"", b"\n", b"{}\n", b"[]\n{}", b"\xff\xfe", b'{"head_crc32": 0, "x": 1}\n'])
def test_damaged_file_is_made_again(tmp_path: Path, damage: bytes) -> None:
    path = tokenizer_cache.cache_path(tmp_path, "key")
    path.write_bytes(damage)
    assert tokenizer_cache.load(path) is None
    tokenizer = Tokenizer.from_metadata(tiny_metadata(), cache_dir=tmp_path, cache_key="key")
    assert tokenizer.encode("ab") == [4]
    assert tokenizer_cache.load(path) is not None


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


def test_a_flipped_byte_of_the_head_is_noticed(tmp_path: Path) -> None:
    path = tokenizer_cache.cache_path(tmp_path, "key")
    tokenizer_cache.store(path, read_vocabulary(tiny_metadata()))
    flip(path, 40)
    assert tokenizer_cache.load(path) is None


def test_a_file_that_is_cut_is_noticed(tmp_path: Path) -> None:
    path = tokenizer_cache.cache_path(tmp_path, "key")
    tokenizer_cache.store(path, read_vocabulary(tiny_metadata()))
    os.truncate(path, path.stat().st_size - 1)
    assert tokenizer_cache.load(path) is None


def test_a_flipped_byte_of_the_rest_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    path = tokenizer_cache.cache_path(tmp_path, "key")
    tokenizer_cache.store(path, read_vocabulary(tiny_metadata()))
    flip(path, -3)
    tokenizer = Tokenizer.from_metadata(tiny_metadata(), cache_dir=tmp_path, cache_key="key")
    with pytest.raises(InvalidModel, match="the file was damaged, and is removed"):
        tokenizer.load()
    assert not path.exists()
    Tokenizer.from_metadata(tiny_metadata(), cache_dir=tmp_path, cache_key="key")
    Tokenizer.from_metadata(tiny_metadata(), cache_dir=tmp_path, cache_key="key").load()


def test_a_wordpiece_is_read_at_once(tmp_path: Path) -> None:
    files = write_files(tmp_path / "folder", published_bert())
    first = Tokenizer.from_folder(files, cache_dir=tmp_path)
    (path,) = tmp_path.glob("*.bin")
    stored = tokenizer_cache.load(path)
    assert stored is not None and stored.index is None
    assert Tokenizer.from_folder(files, cache_dir=tmp_path).encode("the guitar") == first.encode("the guitar")
    flip(path, -3)
    assert tokenizer_cache.load(path) is None


def test_second_load_reads_no_arrays(tmp_path: Path) -> None:
    Tokenizer.from_metadata(tiny_metadata(), cache_dir=tmp_path, cache_key="key")
    metadata = tiny_metadata()
    tokenizer = Tokenizer.from_metadata(metadata, cache_dir=tmp_path, cache_key="key")
    assert metadata.keys_read == []
    assert tokenizer.encode("abc<think>ab") == [5, 7, 4]
    assert tokenizer.encode_with_controls("<s>ab</s>") == [0, 4, 6]


def test_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    tokenizer = Tokenizer.from_metadata(tiny_metadata(), cache_dir=blocked, cache_key="key")
    assert tokenizer.encode("abc") == [5]


def test_key_cannot_leave_the_folder(tmp_path: Path) -> None:
    for key in ("../x", "a/b", "", "a.b", "x" * 200):
        with pytest.raises(InvalidRequest, match="cache_key"):
            tokenizer_cache.cache_path(tmp_path, key)


def test_a_model_by_its_name_is_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_HOME", str(tmp_path / "home"))
    path = tiny_gguf(tmp_path / "tiny.gguf")
    first = Tokenizer.from_pretrained(path)
    monkeypatch.delattr("lepton_ai.text.tokenizer.read_vocabulary")
    again = Tokenizer.from_pretrained(path)
    assert again.encode("a text") == first.encode("a text")
    path.write_bytes(path.read_bytes().replace(b"<|im_end|>", b"<|im_ent|>"))
    with pytest.raises(NameError, match="read_vocabulary"):  # another file, which the cache does not have
        Tokenizer.from_pretrained(path)
