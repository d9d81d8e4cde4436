"""Small tokenizers made by the ``tokenizers`` library, which is the oracle of what we read from their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "The quick brown fox jumps over the lazy dog; it's 3 o'clock, isn't it?",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。 <s>not a control token</s> [CLS] [SEP]",
    "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n",
] * 3
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def byte_level() -> tokenizers.Tokenizer:
    """Byte-level BPE with a BOS before each text of a pair, as Llama 3 has it."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A:0 <s>:1 $B:1", special_tokens=[("<s>", 0)]
    )
    return tokenizer


def roberta() -> tokenizers.Tokenizer:
    """The same with the post-processor of RoBERTa."""
    tokenizer = byte_level()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def bert() -> tokenizers.Tokenizer:
    """Uncased WordPiece."""
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def sentencepiece() -> tokenizers.Tokenizer:
    """SentencePiece with byte fallback, as the older Llama files have it."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *BYTES]
    texts = [line for text in CORPUS[:2] for line in text.split()]
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=380, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    file = json.loads(tokenizer.to_str())
    file["added_tokens"] = file["added_tokens"][:3]
    return tokenizers.Tokenizer.from_str(json.dumps(file))


def metaspace() -> tokenizers.Tokenizer:
    """``▁`` by a pre-tokenizer, an unknown token and no byte fallback."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(vocab_size=150, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


MAKERS = {maker.__name__: maker for maker in (byte_level, roberta, bert, sentencepiece, metaspace)}


def write_folder(folder: Path, files: dict[str, Any]) -> Path:
    """``files`` in ``folder``: text as it is, everything else as JSON."""
    folder.mkdir(exist_ok=True)
    for name, value in files.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def tiny_file(**changes: Any) -> dict[str, Any]:
    """A ``tokenizer.json`` of four letters and three added tokens, with changes; None takes a part away."""
    vocab = {"<s>": 0, "a": 1, "b": 2, "ab": 3, "s": 4, "<": 5, ">": 6, "s>": 7}
    added = [("<s>", 0, True), ("<tool>", 8, False), ("<eot>", 9, True)]
    file = {
        "version": "1.0",
        "added_tokens": [{"content": text, "id": i, "special": special} for text, i, special in added],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": vocab, "merges": ["a b", "s >", "< s>"]},
        **changes,
    }
    return {name: value for name, value in file.items() if value is not None}
