"""The tokenizer of a model: text to token ids and back.

Control tokens are kept out of what splits text, so no text can become one. Only ``encode_segments`` and
``encode_with_controls`` produce their ids, from text that the caller vouches for.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from lepton_ai.config import Environment
from lepton_ai.errors import InvalidRequest, TruncationWarning
from lepton_ai.text import tokenizer_cache
from lepton_ai.text.gguf_tokens import Metadata
from lepton_ai.text.gguf_vocabulary import read_vocabulary
from lepton_ai.text.segments import ControlSplitter, Segment
from lepton_ai.text.spelling import Joiner, speller
from lepton_ai.text.splitter import Splitter, WholeSplitter
from lepton_ai.text.tokenizer_cache import StoredVocabulary
from lepton_ai.text.vocabulary import Frame, Vocabulary
from lepton_ai.weights.checkpoint import Checkpoint, open_checkpoint
from lepton_ai.weights.folder import CheckpointFolder

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Two texts as one input: ``ids`` with the control tokens around them, and the type of each, 0 or 1."""

    ids: list[int]
    token_type_ids: list[int]


class Tokenizer:
    """BPE or WordPiece from the metadata of a GGUF file or from a Hugging Face folder.

    Text may be ``str`` or UTF-8 ``bytes``. What is not well-formed (bytes that begin no character, lone surrogates,
    which is how Python hands over malformed command line arguments) becomes U+FFFD, one for each byte or surrogate.
    A byte for which a byte-level vocabulary has no token is left out, as the models' own tokenizers do.

    Ids go from 0 to ``vocab_size`` - 1. ``role_ids`` are those of "bos", "eos", "unk" and other roles that the model
    has, ``bos_id`` and ``eos_id`` the first two, None if it lacks them; ``eos_token_ids`` are all that end a
    generation. ``control_tokens`` maps the texts of control tokens to their ids. ``chat_template`` is a folder's own.

    Safe to use from several threads.
    """

    def __init__(self, vocabulary: Vocabulary | StoredVocabulary) -> None:
        special = vocabulary.special
        self.vocab_size: int = special.vocab_size
        self.bos_id: int | None = special.role_ids.get("bos")
        self.eos_id: int | None = special.role_ids.get("eos")
        self.role_ids: Mapping[str, int] = MappingProxyType(special.role_ids)
        self.eos_token_ids: tuple[int, ...] = special.eos_token_ids
        self.control_tokens: Mapping[str, int] = MappingProxyType(special.control_tokens)
        self.chat_template: str | None = vocabulary.chat_template
        self._special = special
        self._unknown_id = special.role_ids.get("unk")
        self._control_ids = frozenset(special.control_tokens.values())
        texts = special.control_tokens | special.user_defined
        self._special_bytes = {token_id: text.encode("utf-8") for text, token_id in texts.items()}
        self._known_bytes: dict[int, bytes] = {}  # of tokens that were spelled before
        self._spell_entry = speller(special.spelling)
        if isinstance(vocabulary, Vocabulary):
            self._splitter: Splitter = WholeSplitter(vocabulary.splitter_json)
        else:
            self._splitter = vocabulary.splitter()

    @classmethod
    def from_pretrained(cls, model: str | Path) -> Tokenizer:
        """The tokenizer of the model of this name or path, which is pulled if it is absent. See ``LLM`` for names.

        It is kept in the form that loads fast, in the cache that ``LLM`` uses too.
        Raises ModelNotFound, DownloadFailed, StorageError, and what ``from_checkpoint`` raises.
        """
        from lepton_ai.weights.sources.resolve import resolve

        environment = Environment.read()
        with open_checkpoint(resolve(model, environment), environment.home) as checkpoint:
            return cls.from_checkpoint(checkpoint, cache_dir=environment.home / "tokenizers")

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, *, cache_dir: Path | None = None) -> Tokenizer:
        """The tokenizer of an open checkpoint, kept in ``cache_dir`` if that is given.

        Raises UnsupportedModel for another kind of tokenizer, InvalidModel for malformed data.
        """
        if isinstance(checkpoint, CheckpointFolder):
            return cls.from_folder(checkpoint.path, cache_dir=cache_dir)
        key = checkpoint.digest if cache_dir else None
        return cls.from_metadata(checkpoint.metadata, cache_dir=cache_dir, cache_key=key)

    @classmethod
    def from_metadata(
        cls, metadata: Metadata, *, cache_dir: Path | None = None, cache_key: str | None = None
    ) -> Tokenizer:
        """The tokenizer that ``metadata`` describe.

        With ``cache_dir`` and ``cache_key`` (a digest of the model file) the vocabulary is kept in that folder in a
        form that loads fast, and the next call does not read the arrays of ``metadata``. A folder that cannot be
        written is no error. Raises UnsupportedModel for another kind of tokenizer, InvalidModel for malformed data.
        """
        return cls(tokenizer_cache.load_or_make(cache_dir, cache_key, lambda: read_vocabulary(metadata)))

    @classmethod
    def from_folder(cls, path: Path | str, *, cache_dir: Path | None = None) -> Tokenizer:
        """The tokenizer of a Hugging Face folder: ``tokenizer.json``, or the older files of GPT-2 and BERT.

        With ``cache_dir`` it is kept there under a digest of the files, as ``from_metadata`` does. Raises
        ModelNotFound, UnsupportedModel for a part that is not run, InvalidModel for malformed files.
        """
        from lepton_ai.text import folder  # a GGUF file does without it

        files = folder.read_files(Path(path))
        key = folder.digest(files) if cache_dir else None
        return cls(tokenizer_cache.load_or_make(cache_dir, key, lambda: folder.vocabulary_of(files)))

    def encode(self, text: str | bytes, *, add_special_tokens: bool = True, max_length: int | None = None) -> list[int]:
        """Ids of ``text``, none of them a control token, between those that the model asks for.

        WordPiece gives its unknown token for what it cannot spell. More than ``max_length`` ids, all counted, are cut
        at the end of the text, with a TruncationWarning. Raises InvalidRequest for a ``max_length`` without room, and
        for what is neither ``str`` nor ``bytes``.
        """
        frame = self._special.frame if add_special_tokens else Frame()
        ids = self._encode_text(_well_formed(text))
        if max_length is not None:
            (ids,) = _cut([ids], max_length - len(frame.prefix) - len(frame.suffix), max_length)
        return _surround(ids, frame)

    def encode_pair(self, first: str | bytes, second: str | bytes, *, max_length: int | None = None) -> EncodedPair:
        """Ids and token types of two texts as one input, such as a question and a passage.

        More than ``max_length`` ids, all counted, are cut at the end of the longer text, or of both where they are
        equally long, with a TruncationWarning. Raises InvalidRequest for a model that takes no pairs, or a
        ``max_length`` without room.
        """
        frame = self._special.frame
        if frame.middle is None:
            raise InvalidRequest(
                "second: expected a model that takes pairs of texts, got one that does not", param="second"
            )
        texts = [self._encode_text(_well_formed(text)) for text in (first, second)]
        if max_length is not None:
            around = len(frame.pair_prefix + frame.middle + frame.second_prefix + frame.pair_suffix)
            texts = _cut(texts, max_length - around, max_length)
        head = [*frame.pair_prefix, *texts[0], *frame.middle]
        tail = [*frame.second_prefix, *texts[1], *frame.pair_suffix]
        return EncodedPair(head + tail, [0] * len(head) + [frame.second_type] * len(tail))

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
        return _surround(ids, self._special.frame if add_special_tokens else Frame())

    def encode_with_controls(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Ids of a text in which control tokens stand for themselves. Never give it a user's text."""
        return self.encode_segments(self._control_splitter.split(text), add_special_tokens=add_special_tokens)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ``ids``; bytes that form no character become U+FFFD. Raises InvalidRequest for an unknown id."""
        joiner = self.joiner()
        pieces = [self.join(joiner, token_id, skip_special_tokens=skip_special_tokens) for token_id in ids]
        return b"".join(pieces).decode("utf-8", errors="replace")

    def joiner(self, *, is_continuation: bool = False) -> Joiner:
        """What ``join`` needs for one sequence; ``is_continuation`` where its tokens follow others."""
        return Joiner(self._special.spelling, drops_space=self._special.drops_space, is_continuation=is_continuation)

    def join(self, joiner: Joiner, token_id: int, *, skip_special_tokens: bool) -> bytes:
        """The bytes that ``token_id`` adds to the text of ``joiner``. Raises InvalidRequest for an unknown id."""
        data = self.token_bytes(token_id)
        if token_id in self._special_bytes:
            is_skipped = skip_special_tokens and token_id in self._control_ids
            return joiner.special(data, is_skipped=is_skipped, is_unknown=token_id == self._unknown_id)
        return joiner.text(data)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token within a text, with the space before a word: empty for an unused id.

        Raises InvalidRequest for an id out of range.
        """
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
        token = self._splitter.token(token_id)
        return b"" if token is None else self._spell_entry(token)

    def load(self) -> None:
        """Load all of a vocabulary that came from the cache, of which short texts need a part. Raises InvalidModel.

        Who serves many does it before: with a large vocabulary it holds all threads up for a tenth of a second or two.
        """
        self._splitter.load()

    @cached_property
    def _control_splitter(self) -> ControlSplitter:
        # Thousands of control tokens take a while to compile, and not every prompt has any.
        return ControlSplitter(self.control_tokens)

    def is_control(self, token_id: int) -> bool:
        """Whether ``token_id`` is a control token, which has no place in text shown to people."""
        return token_id in self._control_ids

    def _encode_text(self, text: str) -> list[int]:
        if not text:
            return []
        ids = self._splitter.encode(text)
        unspelled_id = self._special.unspelled_id
        if unspelled_id is not None and unspelled_id in ids:
            return [i for i in ids if i != unspelled_id]
        return ids


def _surround(ids: list[int], frame: Frame) -> list[int]:
    """``ids`` in their frame, of which no end is added that is there already."""
    prefix, suffix = list(frame.prefix), list(frame.suffix)
    if ids[: len(prefix)] != prefix:
        ids = prefix + ids
    if suffix and ids[-len(suffix) :] != suffix:
        ids = ids + suffix
    return ids


def _cut(texts: list[list[int]], room: int, max_length: int) -> list[list[int]]:
    """``texts`` with at most ``room`` ids in all: the longer is cut to the other's length, then both."""
    if room < 0:
        raise InvalidRequest(
            f"max_length: expected room for the {max_length - room} control tokens, got {max_length}",
            param="max_length",
        )
    num_ids = sum(map(len, texts))
    if num_ids <= room:
        return texts
    shortest = min(map(len, texts))
    share = max(room - shortest * (len(texts) - 1), -(-room // len(texts)))
    kept = [text[:share] for text in texts]
    kept[-1] = kept[-1][: room - sum(map(len, kept[:-1]))]
    message = f"text: {num_ids - room} of {num_ids} tokens were cut to keep max_length {max_length}"
    warnings.warn(message, TruncationWarning, stacklevel=3)
    return kept


def _well_formed(text: str | bytes) -> str:
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="surrogateescape")
    elif not isinstance(text, str):
        raise InvalidRequest(f"text: expected str or bytes, got {type(text).__name__}", param="text")
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)
