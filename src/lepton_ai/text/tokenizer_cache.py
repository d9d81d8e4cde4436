"""A vocabulary on disk: one line of JSON with the special tokens, then the ``tokenizer.json`` of the rest.

The ``tokenizers`` library reads that faster, and in less memory, than Python makes its objects from the metadata. The
file is written beside its place and renamed, and is readable by its owner only.
"""

from __future__ import annotations

import dataclasses
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lepton_ai.errors import InvalidRequest
from lepton_ai.text.spelling import Spelling
from lepton_ai.text.vocabulary import Frame, SpecialTokens, Vocabulary
from lepton_ai.weights.files import replace_file

_FORMAT = 2


def cache_path(directory: Path, key: str) -> Path:
    """Where the vocabulary of ``key`` lies. Raises InvalidRequest for a key that is no plain file name."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", key):
        raise InvalidRequest(f"cache_key: expected letters, digits, - and _, got {key!r}", param="cache_key")
    return directory / f"{key}.v{_FORMAT}.json"


def load(path: Path) -> Vocabulary | None:
    """The vocabulary in ``path``; None where there is no file or it is damaged, so that it will be made again."""
    try:
        head, _, body = path.read_bytes().partition(b"\n")
        fields = json.loads(head)
        if fields.pop("crc32") != zlib.crc32(body):
            return None
        chat_template = fields.pop("chat_template")
        fields["eos_token_ids"] = tuple(fields["eos_token_ids"])
        fields["spelling"] = Spelling(fields["spelling"])
        frame: dict[str, Any] = {
            name: tuple(ids) if isinstance(ids, list) else ids for name, ids in fields["frame"].items()
        }
        fields["frame"] = Frame(**frame)
        return Vocabulary(SpecialTokens(**fields), body, chat_template)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def store(path: Path, vocabulary: Vocabulary) -> bool:
    """Write ``vocabulary`` to ``path``. False where the disk does not take it; the caller has it in memory anyway."""
    fields = dataclasses.asdict(vocabulary.special) | {
        "spelling": vocabulary.special.spelling.value,
        "chat_template": vocabulary.chat_template,
        "crc32": zlib.crc32(vocabulary.splitter_json),
    }
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, json.dumps(fields).encode("ascii") + b"\n" + vocabulary.splitter_json)
    except OSError:
        return False
    return True


def load_or_make(directory: Path | None, key: str | None, make: Callable[[], Vocabulary]) -> Vocabulary:
    """The vocabulary of ``key`` in ``directory``; where it is not there, ``make()``, which is stored.

    Without a directory or a key it is made. Raises InvalidRequest for a key that is no plain file name.
    """
    if directory is None or key is None:
        return make()
    path = cache_path(directory, key)
    vocabulary = load(path)
    if vocabulary is None:
        vocabulary = make()
        store(path, vocabulary)
    return vocabulary
