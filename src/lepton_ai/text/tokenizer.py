"""The tokenizer of a model: text to token ids and back.

Control tokens are kept out of the BPE vocabulary, so no text can become one. Only ``encode_segments`` and
``encode_with_controls`` produce their ids, from text that the caller vouches for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lepton_ai.errors import InvalidModel, InvalidRequest
from lepton_ai.text import tokenizer_cache
from lepton_ai.text.byte_level import ByteDecoder
from lepton_ai.text.segments import ControlSplitter, Segment
from lepton_ai.text.vocabulary import Metadata, Vocabulary, read_vocabulary

if TYPE_CHECKING:
    import tokenizers

_SURROGATE = re.compile("[\ud800-\udfff]")


class Tokenizer:
    """Byte-level BPE from the metadata of a GGUF file.

    Text may be ``str`` or UTF-8 ``bytes``. What is not well-formed (bytes that begin no character, lone surrogates,
    which is how Python hands over malformed command line arguments) becomes U+FFFD, one for each byte or surrogate.
    A byte for which the vocabulary has no token is left out, as the models' own tokenizers do.

    Safe to use from several threads.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        special = vocabulary.special
        self.vocab_size: int = special.vocab_size
        self.bos_id: int | None = special.bos_id
        self.eos_id: int | None = special.eos_id
        self.eos_token_ids: tuple[int, ...] = special.eos_token_ids
        self.control_tokens: Mapping[str, int] = MappingProxyType(special.control_tokens)
        self._leading_id = special.bos_id if special.add_bos else None
        self._trailing_id = special.eos_id if special.add_eos else None
        self._unspelled_id = special.unspelled_id
        self._control_ids = frozenset(special.control_tokens.values())
        texts = special.control_tokens | special.user_defined
        self._special_bytes = {token_id: text.encode("utf-8") for text, token_id in texts.items()}
        self._known_bytes: dict[int, bytes] = {}  # of tokens that were spelled before
        self._splitter = ControlSplitter(special.control_tokens)
        self._byte_decoder = ByteDecoder()
        self._bpe = _load_bpe(vocabulary.bpe_json)

    @classmethod
    def from_metadata(
        cls, metadata: Metadata, *, cache_dir: Path | None = None, cache_key: str | None = None
    ) -> Tokenizer:
        """The tokenizer that ``metadata`` describe.

        With ``cache_dir`` and ``cache_key`` (a digest of the model file) the vocabulary is kept in that folder in a
        form that loads fast, and the next call does not read the arrays of ``metadata``. A folder that cannot be
        written is no error. Raises UnsupportedModel for another kind of tokenizer, InvalidModel for malformed data.
        """
        path = tokenizer_cache.cache_path(cache_dir, cache_key) if cache_dir and cache_key else None
        vocabulary = tokenizer_cache.load(path) if path else None
        if vocabulary is None:
            vocabulary = read_vocabulary(metadata)
            if path:
                tokenizer_cache.store(path, vocabulary)
        return cls(vocabulary)

    def encode(self, text: str | bytes, *, add_special_tokens: bool = True) -> list[int]:
        """Ids of ``text``, none of them a control token, between the BOS and EOS that the model asks for."""
        return self._surround(self._encode_text(_well_formed(text)), add_special_tokens=add_special_tokens)

    def encode_segments(self, segments: Iterable[Segment], *, add_special_tokens: bool = True) -> list[int]:
        """Ids of a prompt in segments. Texts that stand side by side are encoded as one text.

        Raises InvalidRequest for a control segment that is no control token of this model.
        """
        ids: list[int] = []
        texts: list[str] = []
        for segment in segments:
            if not segment.is_control:
                texts.append(segment.text)
                continue
            if segment.text not in self.control_tokens:
                raise InvalidRequest(f"segments: {segment.text!r} is no control token of this model", param="segments")
            ids += self._encode_text(_well_formed("".join(texts)))
            ids.append(self.control_tokens[segment.text])
            texts.clear()
        ids += self._encode_text(_well_formed("".join(texts)))
        return self._surround(ids, add_special_tokens=add_special_tokens)

    def encode_with_controls(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Ids of a text in which control tokens stand for themselves. Never give it a user's text."""
        return self.encode_segments(self._splitter.split(text), add_special_tokens=add_special_tokens)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ``ids``; bytes that form no character become U+FFFD. Raises InvalidRequest for an unknown id."""
        kept = (i for i in ids if i not in self._control_ids) if skip_special_tokens else ids
        return b"".join(map(self.token_bytes, kept)).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token: empty for an unused id. Raises InvalidRequest for an id out of range."""
        known = self._known_bytes.get(token_id)
        if known is None:
            known = self._known_bytes[token_id] = self._spell(token_id)
        return known

    def _spell(self, token_id: int) -> bytes:
        if not 0 <= token_id < self.vocab_size:
            raise InvalidRequest(f"token_id: expected 0 to {self.vocab_size - 1}, got {token_id}", param="token_id")
        special = self._special_bytes.get(token_id)
        if special is not None:
            return special
        token = self._bpe.id_to_token(token_id)
        return b"" if token is None else self._byte_decoder.decode(token)

    def is_control(self, token_id: int) -> bool:
        """Whether ``token_id`` is a control token, which has no place in text shown to people."""
        return token_id in self._control_ids

    def _encode_text(self, text: str) -> list[int]:
        if not text:
            return []
        ids: list[int] = self._bpe.encode(text, add_special_tokens=False).ids
        if self._unspelled_id is not None and self._unspelled_id in ids:
            return [i for i in ids if i != self._unspelled_id]
        return ids

    def _surround(self, ids: list[int], *, add_special_tokens: bool) -> list[int]:
        if not add_special_tokens:
            return ids
        if self._leading_id is not None and ids[:1] != [self._leading_id]:
            ids.insert(0, self._leading_id)
        if self._trailing_id is not None and ids[-1:] != [self._trailing_id]:
            ids.append(self._trailing_id)
        return ids


def _well_formed(text: str | bytes) -> str:
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="surrogateescape")
    elif not isinstance(text, str):
        raise InvalidRequest(f"text: expected str or bytes, got {type(text).__name__}", param="text")
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _load_bpe(bpe_json: bytes) -> tokenizers.Tokenizer:
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_buffer(bpe_json)
    except Exception as error:  # the binding raises bare Exception
        raise InvalidModel(
            f"tokenizer.ggml: expected a byte-level BPE, got one that fails: {error}", param="model"
        ) from error
