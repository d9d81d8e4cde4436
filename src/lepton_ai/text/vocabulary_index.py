"""The entries and merges of a BPE, laid out so that those of one text are found where they lie.

BPE begins with the characters of a word and merges neighbours. All that it looks up are parts of the word: characters,
the word itself, and merges whose result is one. So the entries that are parts of a text, with their merges in their
order, split it as the whole vocabulary does, and are a few hundred instead of a hundred thousand.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lepton_ai.text.vocabulary import added_tokens

_ARRAYS = (
    ("hashes", np.uint32),
    ("ids", np.uint32),
    ("text_ends", np.uint32),
    ("merge_ends", np.uint32),
    ("entries", np.int32),
    ("ranks", np.uint32),
    ("left_bytes", np.uint32),
    ("texts", np.uint8),
)
"""Of entries in the order of their hashes: hash, id, where its text and its merges end. Of ids: the entry, or -1. Of
merges, in the order of their results: rank, bytes of the left half. All texts, side by side.
"""

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class VocabularyIndex:
    """``shell`` is a ``tokenizer.json`` without entries, merges and added tokens. ``always`` are entries that BPE looks
    up for other reasons than that they are part of a text. No entry has more than ``longest`` characters.
    """

    shell: dict[str, Any]
    always: tuple[str, ...]
    longest: int
    arrays: Mapping[str, Array]

    @classmethod
    def read(cls, head: Mapping[str, Any], data: memoryview) -> tuple[VocabularyIndex, int]:
        """The index of which ``head`` and ``write`` gave ``data``, and its bytes.

        Raises ValueError, KeyError or TypeError for others.
        """
        arrays: dict[str, Array] = {}
        begin = 0
        for name, dtype in _ARRAYS:
            count = int(head["counts"][name])
            arrays[name] = np.frombuffer(data, dtype, count, begin)
            begin += arrays[name].nbytes
        return cls(head["shell"], tuple(head["always"]), int(head["longest"]), arrays), begin

    def text(self, token_id: int) -> str | None:
        """The text of an id; None if it has none."""
        entries = self.arrays["entries"]
        entry = int(entries[token_id]) if token_id < len(entries) else -1
        return None if entry < 0 else self._text(entry).decode("utf-8")

    def tokenizer_json(self, words: Iterable[str], added: Mapping[str, int], *, most_parts: int) -> bytes | None:
        """A ``tokenizer.json`` that finds ``added`` tokens, and splits ``words`` as the whole one does.

        None if these have more than ``most_parts``.
        """
        parts = self._parts(set(words), most_parts)
        if parts is None:
            return None
        found = self._find([*parts, *self.always])
        ends = self.arrays["merge_ends"]
        ranked: list[tuple[int, str, str]] = []
        for text, entry in found.items():
            spelled = text.encode("utf-8")
            for merge in range(int(ends[entry - 1]) if entry else 0, int(ends[entry])):
                at = int(self.arrays["left_bytes"][merge])
                ranked.append((int(self.arrays["ranks"][merge]), spelled[:at].decode(), spelled[at:].decode()))
        ids = self.arrays["ids"]
        vocab = {text: int(ids[entry]) for text, entry in found.items()} | dict(added)
        model = self.shell["model"] | {"vocab": vocab, "merges": [[left, right] for _, left, right in sorted(ranked)]}
        return json.dumps(self.shell | {"added_tokens": added_tokens(added), "model": model}).encode("ascii")

    def _parts(self, words: Collection[str], most: int) -> set[str] | None:
        if sum(len(word) * min(len(word), self.longest) for word in words) > most:
            return None
        parts: set[str] = set()
        for word in words:
            for begin in range(len(word)):
                ends = range(begin + 1, min(len(word), begin + self.longest) + 1)
                parts.update(word[begin:end] for end in ends)
        return parts

    def _find(self, texts: list[str]) -> dict[str, int]:
        """The entries of those texts that have one."""
        hashes = self.arrays["hashes"]
        spelled = [text.encode("utf-8") for text in texts]
        wanted = np.fromiter(map(zlib.crc32, spelled), np.uint32, len(spelled))
        begins, ends = np.searchsorted(hashes, wanted), np.searchsorted(hashes, wanted, "right")
        found: dict[str, int] = {}
        for index in np.flatnonzero(begins < ends).tolist():
            for entry in range(int(begins[index]), int(ends[index])):
                if self._text(entry) == spelled[index]:
                    found[texts[index]] = entry
        return found

    def _text(self, entry: int) -> bytes:
        ends = self.arrays["text_ends"]
        begin = int(ends[entry - 1]) if entry else 0
        return self.arrays["texts"][begin : int(ends[entry])].tobytes()


def write(splitter_json: bytes) -> tuple[dict[str, Any], bytes] | None:
    """What ``VocabularyIndex.read`` takes; None for a model that is no BPE."""
    whole = json.loads(splitter_json)
    model = whole["model"]
    if model["type"] != "BPE":
        return None
    vocab: dict[str, int] = model.pop("vocab")
    always = [model["unk_token"]] if model["unk_token"] is not None else []
    if model["byte_fallback"]:
        always += [f"<0x{byte:02X}>" for byte in range(256)]
    arrays = _arrays(vocab, model.pop("merges"), model["unk_token"])
    head = {
        "shell": whole | {"added_tokens": [], "model": model},
        "always": always,
        "longest": max(map(len, vocab), default=0),
        "counts": {name: len(array) for name, array in arrays.items()},
    }
    return head, b"".join(arrays[name].astype(dtype).tobytes() for name, dtype in _ARRAYS)


def _arrays(vocab: Mapping[str, int], merges: Iterable[Any], unknown: str | None) -> dict[str, Array]:
    texts = sorted(vocab, key=lambda text: zlib.crc32(text.encode("utf-8")))
    spelled = [text.encode("utf-8") for text in texts]
    of_result: dict[str, list[tuple[int, int]]] = {}
    for rank, merge in enumerate(merges):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        of_result.setdefault(left + right, []).append((rank, len(left.encode("utf-8"))))
    sorted_merges = [of_result.get(text, []) for text in texts]
    entries = np.full(max(vocab.values(), default=-1) + 1, -1, np.int32)
    for entry, text in enumerate(texts):
        if text != unknown:  # which may have the id of a token with a text of its own
            entries[vocab[text]] = entry
    flat = list(itertools.chain.from_iterable(sorted_merges))
    return {
        "hashes": np.array([zlib.crc32(each) for each in spelled], np.uint32),
        "ids": np.array([vocab[text] for text in texts], np.uint32),
        "text_ends": np.cumsum([len(each) for each in spelled], dtype=np.uint32),
        "merge_ends": np.cumsum([len(each) for each in sorted_merges], dtype=np.uint32),
        "entries": entries,
        "ranks": np.array([rank for rank, _ in flat], np.uint32),
        "left_bytes": np.array([size for _, size in flat], np.uint32),
        "texts": np.frombuffer(b"".join(spelled), np.uint8),
    }
