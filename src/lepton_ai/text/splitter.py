"""What splits a text into the entries of a vocabulary: the ``tokenizers`` library, with all of them or with a few."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from lepton_ai.errors import InvalidModel
from lepton_ai.text.segments import ControlSplitter
from lepton_ai.text.vocabulary_index import VocabularyIndex

if TYPE_CHECKING:
    import tokenizers

_LONG_CHARACTERS = 4096
_FEW_CHARACTERS = 2048
"""Of all texts that are split by a few entries each. Loading all of them takes as long as some thousand characters."""

_MOST_PARTS = 20_000


class Splitter(Protocol):
    """Safe to use from several threads."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        ...

    def token(self, token_id: int) -> str | None:
        """The entry of an id below the vocabulary's size; None if it has none."""
        ...

    def load(self) -> None:
        """Do now what would hold others up later."""
        ...


class WholeSplitter:
    """Has all entries. Raises InvalidModel for a ``tokenizer.json`` that the library does not take."""

    def __init__(self, splitter_json: bytes) -> None:
        self._library = _load(splitter_json)

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        if len(text) < _LONG_CHARACTERS:
            return _encode(self._library, text)
        # The call for several texts lets other threads run, for seconds where a text has a million characters.
        (encoding,) = self._library.encode_batch_fast([text], add_special_tokens=False)
        ids: list[int] = encoding.ids
        return ids

    def token(self, token_id: int) -> str | None:
        """The entry of an id."""
        token: str | None = self._library.id_to_token(token_id)
        return token

    def load(self) -> None:
        """It is loaded."""


class IndexedSplitter:
    """Splits the first short texts with the entries that are parts of them, and loads all when there are more.

    ``read_json`` gives the whole ``tokenizer.json``. ``added`` are the texts that are found before words are.
    """

    def __init__(self, index: VocabularyIndex, read_json: Callable[[], bytes], added: Mapping[str, int]) -> None:
        self._index = index
        self._read_json = read_json
        self._added = added
        self._num_characters_left = _FEW_CHARACTERS
        self._lock = threading.Lock()
        self._whole: WholeSplitter | None = None
        empty = index.tokenizer_json((), {}, most_parts=0)
        assert empty is not None
        self._shell = _load(empty)

    def encode(self, text: str) -> list[int]:
        """The ids of a text."""
        if self._whole is None:
            self._num_characters_left -= len(text)
            if self._num_characters_left >= 0:
                ids = self._encode_by_few(text)
                if ids is not None:
                    return ids
        return self._load_whole().encode(text)

    def token(self, token_id: int) -> str | None:
        """The entry of an id."""
        return self._index.text(token_id)

    def load(self) -> None:
        """Load all entries."""
        self._load_whole()

    def _encode_by_few(self, text: str) -> list[int] | None:
        """None for a text with words of too many parts."""
        added = {token: token_id for token, token_id in self._added.items() if token in text}
        pieces = ControlSplitter(added).split(text)
        words = [word for piece in pieces if not piece.is_control for word in self._words(piece.text)]
        few = self._index.tokenizer_json(words, added, most_parts=_MOST_PARTS)
        return None if few is None else _encode(_load(few), text)

    def _words(self, text: str) -> list[str]:
        """What BPE is given one by one of a text without added tokens."""
        if self._shell.normalizer is not None:
            text = self._shell.normalizer.normalize_str(text)
        if self._shell.pre_tokenizer is None:
            return [text]
        return [word for word, _ in self._shell.pre_tokenizer.pre_tokenize_str(text)]

    def _load_whole(self) -> WholeSplitter:
        with self._lock:
            if self._whole is None:
                self._whole = WholeSplitter(self._read_json())
            return self._whole


def _encode(library: tokenizers.Tokenizer, text: str) -> list[int]:
    ids: list[int] = library.encode(text, add_special_tokens=False).ids
    return ids


def _load(splitter_json: bytes) -> tokenizers.Tokenizer:
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_buffer(splitter_json)
    except Exception as error:  # the binding raises bare Exception
        raise InvalidModel(f"tokenizer: expected one that loads, got one that fails: {error}", param="model") from error
