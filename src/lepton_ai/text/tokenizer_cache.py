"""A vocabulary on disk, in a form that is used where it lies.

    a line of JSON: the special tokens, the chat template, the head of the index, lengths and checksums
    the index of a BPE (``vocabulary_index``), from a multiple of 64 bytes on
    the ``tokenizer.json`` of all but the special tokens

The file is mapped: who splits a short text reads a few pages of the index. All of it is read when there is more to
split: the ``tokenizers`` library reads its JSON faster, and in less memory, than Python makes its objects from the
metadata. The file is written beside its place and renamed, and is readable by its owner only.
"""

from __future__ import annotations

import dataclasses
import json
import mmap
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lepton_ai.errors import InvalidModel, InvalidRequest
from lepton_ai.text import vocabulary_index
from lepton_ai.text.spelling import Spelling
from lepton_ai.text.splitter import IndexedSplitter, Splitter, WholeSplitter
from lepton_ai.text.vocabulary import Frame, SpecialTokens, Vocabulary
from lepton_ai.text.vocabulary_index import VocabularyIndex
from lepton_ai.weights.files import replace_file

_FORMAT = 3
_ALIGNMENT = 64
_MAX_HEAD_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class StoredVocabulary:
    """A vocabulary in a file, mapped as ``data``, of which the ``tokenizer.json`` is what begins at ``body_begin``."""

    path: Path
    special: SpecialTokens
    chat_template: str | None
    index: VocabularyIndex | None
    data: memoryview
    body_begin: int
    body_crc32: int

    def splitter_json(self) -> bytes:
        """The ``tokenizer.json``. A damaged one is removed, so that it will be made again: raises InvalidModel."""
        body = bytes(self.data[self.body_begin :])
        if zlib.crc32(body) != self.body_crc32:
            self.path.unlink(missing_ok=True)
            raise InvalidModel(f"{self.path}: the file was damaged, and is removed; load the model again")
        return body

    def splitter(self) -> Splitter:
        """What splits texts with it. Raises InvalidModel."""
        if self.index is None:
            return WholeSplitter(self.splitter_json())
        return IndexedSplitter(self.index, self.splitter_json, self.special.user_defined)


def cache_path(directory: Path, key: str) -> Path:
    """Where the vocabulary of ``key`` lies. Raises InvalidRequest for a key that is no plain file name."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", key):
        raise InvalidRequest(f"cache_key: expected letters, digits, - and _, got {key!r}", param="cache_key")
    return directory / f"{key}.v{_FORMAT}.bin"


def load(path: Path) -> StoredVocabulary | None:
    """The vocabulary in ``path``; None where there is no file or it is damaged, so that it will be made again."""
    try:
        with path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            head = file.readline(_MAX_HEAD_BYTES)
        fields = json.loads(head)
        if fields.pop("head_crc32") != zlib.crc32(_dump(fields)):
            return None
        index, begin = None, _aligned(len(head))
        if fields["index"] is not None:
            index, num_bytes = VocabularyIndex.read(fields["index"], data[begin:])
            begin += num_bytes
        special = _special(fields["special"])
        if len(data) - begin != fields["body_bytes"]:
            return None
        stored = StoredVocabulary(path, special, fields["chat_template"], index, data, begin, fields["body_crc32"])
        if index is None:
            stored.splitter_json()  # which is read at once
        return stored
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InvalidModel):
        return None


def store(path: Path, vocabulary: Vocabulary) -> bool:
    """Write ``vocabulary`` to ``path``. False where the disk does not take it; the caller has it in memory anyway."""
    special = dataclasses.asdict(vocabulary.special) | {"spelling": vocabulary.special.spelling.value}
    body = vocabulary.splitter_json
    written = vocabulary_index.write(body)
    index_head, index_data = (None, b"") if written is None else written
    fields = {
        "special": special,
        "chat_template": vocabulary.chat_template,
        "index": index_head,
        "body_bytes": len(body),
        "body_crc32": zlib.crc32(body),
    }
    head = _dump(fields | {"head_crc32": zlib.crc32(_dump(fields))}) + b"\n"
    padding = b"\0" * (_aligned(len(head)) - len(head))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, head + padding + index_data + body, is_durable=True)
    except OSError:
        return False
    return True


def load_or_make(
    directory: Path | None, key: str | None, make: Callable[[], Vocabulary]
) -> Vocabulary | StoredVocabulary:
    """The vocabulary of ``key`` in ``directory``; where it is not there, ``make()``, which is stored.

    Without a directory or a key it is made. Raises InvalidRequest for a key that is no plain file name.
    """
    if directory is None or key is None:
        return make()
    path = cache_path(directory, key)
    stored = load(path)
    if stored is not None:
        return stored
    vocabulary = make()
    store(path, vocabulary)
    return vocabulary


def _special(fields: dict[str, Any]) -> SpecialTokens:
    fields["eos_token_ids"] = tuple(fields["eos_token_ids"])
    fields["spelling"] = Spelling(fields["spelling"])
    frame: dict[str, Any] = {
        name: tuple(ids) if isinstance(ids, list) else ids for name, ids in fields["frame"].items()
    }
    fields["frame"] = Frame(**frame)
    return SpecialTokens(**fields)


def _dump(fields: object) -> bytes:
    return json.dumps(fields).encode("ascii")


def _aligned(num_bytes: int) -> int:
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT
