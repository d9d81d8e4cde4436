"""Mutated tokenizers, in the files of a folder and in the metadata of a GGUF file, and the check of what is read."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.weights.fuzzing import EXTREMES, mutate_bytes
from tests.weights.gguf_writer import Typed, Value, encode_gguf

from lepton_ai.errors import LeptonError
from lepton_ai.text.byte_level import byte_alphabet
from lepton_ai.text.tokenizer import Tokenizer
from lepton_ai.weights.checkpoint import open_gguf
from lepton_ai.weights.gguf_values import ValueType

from .hf_folders import BYTES, MAKERS, tiny_file

TEXTS: Final = ("", "The quick <s>[CLS] fóx\n\n天 </s> 😀", "a" * 300, "ab" * 40 + " \t\r\n" * 20)
FILES: Final = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "vocab.txt")
MAX_DECODED_BYTES: Final = 1 << 20
"""The longest published token has some hundred bytes; nothing here may grow beyond all measure."""

_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**70, 1.5, "", "a", "▁", "##", "<s>", "[CLS]", "\u0000", "x" * 100),
    *([], {}, [0], ["a", "b"], {"type": "Sequence"}, {"type": "NFC"}, {"type": "ByteLevel"}, {"String": "a"}),
    *({"Regex": r"\s+"}, {"Regex": "(a*)*"}, "(a|a)*b", "a b", "\ufffe", "\ud800", "Unigram", "WordLevel", "BPE"),
)
_FEW = 12
"""Of long containers, so many items are changed: a vocabulary would else hide all that stands beside it."""

Files = dict[str, bytes]


class FolderTarget:
    """The readers of a Hugging Face folder's tokenizer files; it implements ``fuzzing.Target``.

    An input is all files of a folder in one: a length and the bytes of each of ``FILES``.
    """

    def __init__(self) -> None:
        self._bases = [*_modern_folders(), _gpt2_folder(), _bert_folder()]

    def bases(self) -> list[bytes]:
        """Each kind of tokenizer, and the older files of GPT-2 and BERT."""
        return [_join(files) for files in self._bases]

    def mutated(self, rng: random.Random) -> bytes:
        """A folder with changes of values, of the text and of the bytes of its files."""
        files = dict(rng.choice(self._bases))
        for _ in range(rng.choice([1, 1, 2])):
            name = rng.choice(sorted(files))
            if name.endswith(".json") and rng.random() < 0.8:
                files[name] = _with_changed_values(files[name], rng)
            else:
                files[name] = _with_changed_lines(files[name], rng)
            if rng.random() < 0.15:
                data = bytearray(files[name])
                mutate_bytes(data, rng)
                files[name] = bytes(data)
        if rng.random() < 0.02:
            del files[rng.choice(sorted(files))]
        return _join(files)

    def read(self, path: Path) -> bool:
        """See ``Target.read``."""
        folder = path.with_suffix(".folder")
        folder.mkdir(exist_ok=True)
        files = _split(path.read_bytes())
        for name in FILES:
            # A new file each time: some file systems write one that is truncated to the disk at once.
            (folder / name).unlink(missing_ok=True)
            if name in files:
                (folder / name).write_bytes(files[name])
        return _is_read(lambda: Tokenizer.from_folder(folder))


class GGUFTokenizerTarget:
    """The readers of tokenizer metadata; it implements ``fuzzing.Target``."""

    def __init__(self) -> None:
        self._bases = [_byte_level_metadata(), _sentencepiece_metadata(), _wordpiece_metadata()]

    def bases(self) -> list[bytes]:
        """Each kind of tokenizer."""
        return [bytes(encode_gguf(metadata, {}).data) for metadata in self._bases]

    def mutated(self, rng: random.Random) -> bytes:
        """A file with one to three changes of values, and of any bytes."""
        metadata = dict(rng.choice(self._bases))
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            _change_key(metadata, rng.choice(sorted(metadata)), rng)
        data = encode_gguf(metadata, {}).data
        for _ in range(rng.choice([0, 0, 0, 0, 1])):
            mutate_bytes(data, rng)
        return bytes(data)

    def read(self, path: Path) -> bool:
        """See ``Target.read``."""

        def make() -> Tokenizer:
            with open_gguf(path) as checkpoint:
                return Tokenizer.from_checkpoint(checkpoint)

        return _is_read(make)


def _is_read(make: Callable[[], Tokenizer]) -> bool:
    """Whether there is a tokenizer; it must then keep its promises."""
    try:
        tokenizer = make()
    except LeptonError:
        return False
    unknown_id = tokenizer.role_ids.get("unk")
    for text in TEXTS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert all(0 <= token_id < tokenizer.vocab_size for token_id in ids)
        assert not any(i != unknown_id and tokenizer.is_control(i) for i in ids), "text became a control token"
        decoded = tokenizer.decode(tokenizer.encode(text), skip_special_tokens=False)
        assert len(decoded.encode("utf-8")) <= MAX_DECODED_BYTES
    assert all(0 <= token_id < tokenizer.vocab_size for token_id in tokenizer.eos_token_ids)
    return True


def _modern_folders() -> list[Files]:
    config = {"add_bos_token": False, "model_max_length": 512, "chat_template": "{{ messages }}"}
    files = [tiny_file(), *(json.loads(maker().to_str()) for maker in MAKERS.values())]
    encoded = json.dumps(config).encode()
    return [{"tokenizer.json": json.dumps(file).encode(), "tokenizer_config.json": encoded} for file in files]


def _gpt2_folder() -> Files:
    vocab = {char: byte for byte, char in byte_alphabet().items()} | {"ab": 256, "Ġa": 257, "<|endoftext|>": 258}
    config = {"add_prefix_space": False, "unk_token": "<|endoftext|>", "eos_token": {"content": "<|endoftext|>"}}
    return {
        "vocab.json": json.dumps(vocab).encode(),
        "merges.txt": "#version: 0.2\na b\nĠ a\n".encode(),
        "tokenizer_config.json": json.dumps(config).encode(),
    }


def _bert_folder() -> Files:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", *(f"##{char}" for char in "abcdefgh"), "the"]
    config = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True, "cls_token": "[CLS]"}
    return {"vocab.txt": "\n".join(pieces).encode(), "tokenizer_config.json": json.dumps(config).encode()}


def _join(files: Files) -> bytes:
    """A length of 2^32 - 1 stands for no file."""
    parts = [struct.pack("<I", len(files[name])) + files[name] if name in files else b"\xff" * 4 for name in FILES]
    return b"".join(parts)


def _split(data: bytes) -> Files:
    files: Files = {}
    for name in FILES:
        size = int.from_bytes(data[:4], "little")
        data = data[4:]
        if size != 0xFFFFFFFF:
            files[name], data = data[:size], data[size:]
    return files


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every value; of long containers to the first few only."""
    paths = [path] if path else []
    is_list = isinstance(value, list)
    keys = list(value)[:_FEW] if isinstance(value, dict) else range(min(len(value), _FEW)) if is_list else []
    for key in keys:
        paths += _places(value[key], (*path, key))
    return paths


def _with_changed_values(data: bytes, rng: random.Random) -> bytes:
    try:
        file = json.loads(data)
    except ValueError:  # a change of its bytes came before
        return data
    places = _places(file)
    if not places:
        return data
    *parents, key = rng.choice(places)
    holder = file
    for parent in parents:
        holder = holder[parent]
    choice = rng.random()
    if choice < 0.2:
        del holder[key]
    elif choice < 0.3 and isinstance(holder, dict):
        holder[rng.choice(["type", "content", "id", "a", "<s>"])] = holder.pop(key)
    elif choice < 0.4 and isinstance(holder, list):
        holder.append(holder[key])
    elif choice < 0.5 and isinstance(holder[key], list):
        holder[key] = holder[key] * rng.choice([2, 50])
    else:
        holder[key] = copy.deepcopy(rng.choice(_VALUES))
    return json.dumps(file, ensure_ascii=True).encode()


def _with_changed_lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    line, value = lines[at], str(rng.choice(_VALUES)).encode("utf-8", errors="surrogatepass")
    many = 200 if len(line) < 100 else 3
    lines[at : at + 1] = rng.choice([[], [line] * 2, [line] * many, [value], [line, value], [line[:2]]])
    return b"\n".join(lines)


def _byte_level_metadata() -> dict[str, Value]:
    tokens = [*byte_alphabet().values(), "ab", "Ġa", "<|endoftext|>", "<tool>"]
    return {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * 258 + [3, 4],
        "tokenizer.ggml.merges": ["a b", "Ġ a"],
        "tokenizer.ggml.bos_token_id": 258,
        "tokenizer.ggml.eos_token_id": 258,
        "tokenizer.ggml.add_bos_token": True,
    }


def _sentencepiece_metadata() -> dict[str, Value]:
    pieces = ["▁", "a", "b", "ab", "▁ab", "天"]
    return {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *BYTES, *pieces],
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * len(pieces)],
        "tokenizer.ggml.scores": [0.0] * 259 + [-float(i) for i in range(len(pieces))],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_space_prefix": True,
    }


def _wordpiece_metadata() -> dict[str, Value]:
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"▁{char}" for char in "abcdefgh"), *"abcdefgh", "▁the"]
    return {
        "general.architecture": "bert",
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * 4 + [1] * (len(tokens) - 4),
        "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.unknown_token_id": 1,
    }


_SCALARS: Final[tuple[Value, ...]] = (
    *(0, 1, 2, 3, -1, 258, 1.5, True, False, "", "gpt2", "llama", "bert", "t5", "rwkv", "x" * 300),
    *(Typed(ValueType.U64, value) for value in EXTREMES),
)
_ARRAYS: Final[tuple[Value, ...]] = ([], ["a"], ["a b"], [1], [2.5], [float("nan")], [True], [["a"]], ["a"] * 300)
_ITEMS: Final[tuple[Any, ...]] = (
    0,
    7,
    -1,
    2**31 - 1,
    4,
    5,
    6,
    1e30,
    float("nan"),
    "",
    " ",
    "\n",
    "▁",
    "a",
    "ab",
    "b a",
)
_LONG: Final = ("a" * 600, "a" * 20_000, "é" * 500, "<0x00>", "##", "\uffff\uffff")


def _change_key(metadata: dict[str, Value], key: str, rng: random.Random) -> None:
    value, choice = metadata[key], rng.random()
    if choice < 0.1:
        del metadata[key]
    elif isinstance(value, list) and choice < 0.85:
        metadata[key] = _changed_items(value, rng)
    else:
        metadata[key] = rng.choice([*_SCALARS, *_ARRAYS])


def _changed_items(items: list[Any], rng: random.Random) -> list[Any]:
    if not items:
        return items
    items, at = list(items), rng.randrange(len(items))
    match rng.randrange(5):
        case 0:
            del items[at]
        case 1:
            items.insert(at, items[rng.randrange(len(items))])
        case 2:
            return items * (2 if len(items) > 40 else 20)  # changes follow each other, and multiply
        case _:
            alike = [item for item in (*_ITEMS, *_LONG) if type(item) is type(items[0])]
            if alike:
                items[at] = rng.choice(alike)
    return items
