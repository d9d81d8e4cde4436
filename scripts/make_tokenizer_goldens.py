"""Make the goldens of the tokenizer and chat template tests.

Needs ``llama-cpp-python`` and ``gguf`` (token ids, metadata) and ``transformers`` (rendered chats), none of which
the product uses:

    python scripts/make_tokenizer_goldens.py --data DIR --model smollm2=FILE --model qwen2=FILE \\
        --digests gemma3=FILE --bert minilm=DIR

``--data`` is a folder with the text files named in ``_CORPORA``. ``--digests`` takes GGUF files of which a checksum of
each string's ids is enough, ``--bert`` folders with a ``tokenizer.json``. The pre-tokenizers of ``_PRETOKENIZERS`` are
tried on the vocabulary of ``smollm2``. Everything is seeded: the same inputs give the same files.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

NUM_STRINGS = 5000
OUTPUT = Path(__file__).resolve().parent.parent / "tests" / "text" / "golden"

_PRETOKENIZERS = ("default", "gpt-2", "llama-bpe")

_CORPORA = {"wiki.test.raw": 900, "sst2-dev.tsv": 300, "banking77-test.csv": 300, "tnews-dev.json": 500}

_BLOCKS = [
    *((0x00, 0x7F), (0x80, 0xFF), (0x100, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F)),
    *((0x530, 0x58F), (0x590, 0x5FF), (0x600, 0x6FF), (0x700, 0x7BF), (0x900, 0x97F), (0x980, 0x9FF), (0xA00, 0xA7F)),
    *((0xA80, 0xAFF), (0xB00, 0xB7F), (0xB80, 0xBFF), (0xC00, 0xC7F), (0xC80, 0xCFF), (0xD00, 0xD7F), (0xD80, 0xDFF)),
    *((0xE00, 0xE7F), (0xE80, 0xEFF), (0xF00, 0xFFF), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF)),
    *((0x1200, 0x137F), (0x13A0, 0x13FF), (0x1400, 0x167F), (0x16A0, 0x16F0), (0x1780, 0x17FF), (0x1800, 0x18AF)),
    *((0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x20CF), (0x2100, 0x218F), (0x2190, 0x23FF), (0x2460, 0x27BF)),
    *((0x2C00, 0x2DFF), (0x2E80, 0x2FDF), (0x3000, 0x30FF), (0x3100, 0x33FF), (0x4E00, 0x9FFF), (0xA000, 0xA4CF)),
    *((0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFE6F), (0xFF00, 0xFFEF)),
    *((0x10000, 0x1013F), (0x10330, 0x1034F), (0x12000, 0x1236E), (0x13000, 0x1342E), (0x1D400, 0x1D7FF)),
    *((0x1F000, 0x1F2FF), (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0xE0000, 0xE007F)),
]

_SENTENCES = [
    "The quick brown fox jumps over the lazy dog; it's 3 o'clock, isn't it?",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "Voix ambiguë d’un cœur qui, au zéphyr, préfère les jattes de kiwis.",
    "El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia y frío; ¿añoraba?",
    "Съешь же ещё этих мягких французских булок да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश",
    "আমি বাংলায় গান গাই, আমি বাংলার গান গাই",
    "யாமறிந்த மொழிகளிலே தமிழ்மொழி போல் இனிதாவது எங்கும் காணோம்",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
    "いろはにほへと ちりぬるを 我が世誰ぞ常ならむ",
    "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.",
    "天地玄黄，宇宙洪荒。日月盈昃，辰宿列张。",
    "Tiếng Việt có rất nhiều dấu: ngã, hỏi, nặng, sắc, huyền.",
    "Pijamalı hasta yağız şoföre çabucak güvendi. İstanbul'un IŞIĞI",
    "ქართული ენა მსოფლიოს ერთ-ერთი უძველესი ენაა",
    "ሰማይ አይታረስ ንጉሥ አይከሰስ።",
    "Լիցքավորված ֆիզիկոս 12345 ձայն։",
]

_CODE = [
    "def fib(n: int) -> int:\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n\n\nprint(fib(10))\n",
    'int main(void) {\n\tfor (size_t i = 0; i < 10; ++i)\n\t\tprintf("%zu\\n", i);\n\treturn 0;\n}\n',
    'fn main() {\r\n    let v: Vec<u8> = vec![0xFF; 1_000];\r\n    println!("{:?}", &v[..]);\r\n}\r\n',
    "SELECT u.id, COUNT(*) FROM users AS u\n  LEFT JOIN orders o ON o.user_id = u.id\n GROUP BY 1 HAVING COUNT(*) > 9;",
    "<!DOCTYPE html>\n<div class=\"a b\" id='c'>&nbsp;&amp;<!-- x --></div>\n",
    "const f = async ({a, ...rest}) => { await fetch(`/api/${a}?q=1`); return rest ?? null; };",
    "#!/bin/sh\nset -eu\nfor f in *.txt; do echo \"$f\" | sed 's/[0-9]\\+/N/g' >> out; done\n",
    '{"name": "get_weather", "arguments": {"city": "Zürich", "days": 3, "unit": null}}',
    "\\begin{equation}\n  e^{i\\pi} + 1 = 0 \\tag{1}\n\\end{equation}",
    "x = np.einsum('bhqd,bhkd->bhqk', q, k) / math.sqrt(d)  # [B,H,T,T]",
    'package main\n\nimport "fmt"\n\nfunc main() {\n\tfmt.Println("héllo, 世界")\n}\n',
    "| a | b |\n|---|:-:|\n| 1 | **2** |\n\n- [ ] todo\n- [x] done\n",
]

_EMOJI = ["👩‍👩‍👧‍👦", "👍🏽", "🇨🇭", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "❤️‍🔥", "☺️", "1️⃣", "🧑🏿‍🚀", "😀", "🫠", "©️", "™", "🤷‍♀️"]

_CONTROL_LIKE = [
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_end|", "<im_end>", "<|IM_END|>", "<| im_end |>", "<|im_"),
    *("end|>", "<|", "|>", "<repo_name>", "<file_sep>", "<jupyter_code>", "<empty_output>", "<|fim_prefix|>"),
    *("<|vision_pad|>", "<|box_end|>", "<tool_call>", "</tool_call>", "<tool_response>", "<s>", "</s>", "[INST]"),
    *("<unk>", "<pad>", "[PAD151665]", "<|im_start|>system\n", "<|im_end|>\n<|im_start|>assistant\n"),
]

_SPACES = [
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "\u00a0",
    "\u3000",
    "\u2003",
    "\v",
    "\f",
    "\u2028",
    "\u200b",
]

_NOT_UTF8 = re.compile(
    rb"[\xc0\xc1\xf5-\xf7][\x80-\xbf]|\xe0[\x80-\x9f][\x80-\xbf]|\xed[\xa0-\xbf][\x80-\xbf]"
    rb"|\xf0[\x80-\x8f][\x80-\xbf][\x80-\xbf]|\xf4[\x90-\xbf][\x80-\xbf][\x80-\xbf]"
)
"""Overlong forms, surrogates and code points past U+10FFFF: llama.cpp decodes them all the same, or ends itself."""


def _corpus_lines(data: Path, rng: random.Random) -> Iterator[str]:
    for name, count in _CORPORA.items():
        lines = [line for line in (data / name).read_text(encoding="utf-8").split("\n") if len(line) > 20]
        for line in rng.sample(lines, count):
            start = rng.randrange(max(1, len(line) - 200))
            yield line[start : start + rng.randint(20, 200)]


def _in_block(rng: random.Random) -> str:
    low, high = rng.choice(_BLOCKS)
    text = "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 16)))
    return rng.choice(["", " ", "a"]) + text + rng.choice(["", " ", "\n", " 1"])


def _mixed(rng: random.Random) -> str:
    parts = [*_SENTENCES, *_CODE, *_EMOJI, *_CONTROL_LIKE]
    chosen = [rng.choice(parts)[: rng.randint(1, 40)] for _ in range(rng.randint(2, 4))]
    return rng.choice(["", *_SPACES]).join(chosen)


def _digits(rng: random.Random) -> str:
    number = "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 24)))
    form = rng.choice(["{}", " {}", "{}.{}", "-{}e{}", "${},{}", "{}½²", "٣{}٤", "{}年{}月", "v{}.{}", "0x{}", "１{}"])
    return form.format(number, number[:3])


def _spaces(rng: random.Random) -> str:
    words = ["", "a", "word", "1", ".", "é", "世", "'s", "\u0301"]
    return "".join(rng.choice(_SPACES) * rng.randint(0, 5) + rng.choice(words) for _ in range(rng.randint(1, 6)))


def _emoji(rng: random.Random) -> str:
    return rng.choice(["", " ", "ok "]).join(rng.choice(_EMOJI) for _ in range(rng.randint(1, 6)))


def _code(rng: random.Random) -> str:
    text = rng.choice(_CODE)
    start = rng.randrange(len(text) // 2)
    return text[start : start + rng.randint(10, len(text))].replace("    ", " " * rng.randint(1, 9))


def _control_like(rng: random.Random) -> str:
    fill = ["", " ", "\n", "hi", "世界"]
    return "".join(rng.choice(_CONTROL_LIKE) + rng.choice(fill) for _ in range(rng.randint(1, 4)))


def _long_run(rng: random.Random) -> str:
    unit = rng.choice(["a", "ab", " ", "\n", "=", "-", "0", "世", "é", "ha", "😀", "\u0301", "Ġ", "<|", "!?"])
    return unit * rng.randint(20, 300)


def _contractions(rng: random.Random) -> str:
    ends = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'LL", "’s", "'x", "''s", "'ſ"]
    return " ".join(rng.choice(["I", "we", "IT", "été", "1", ""]) + rng.choice(ends) for _ in range(rng.randint(1, 5)))


def _broken(rng: random.Random) -> bytes:
    raw = bytearray(rng.choice([*_SENTENCES, *_EMOJI, *_CODE])[:40].encode("utf-8"))
    for _ in range(rng.randint(1, 4)):
        position = rng.randrange(len(raw))
        if rng.random() < 0.5:
            del raw[position]
        else:
            raw.insert(position, rng.choice([0x80, 0xBF, 0xC3, 0xE2, 0xF0, 0xFE, 0xFF]))
        if not raw:
            return b"\xff"
    return bytes(raw)


_MAKERS: list[tuple[int, Callable[[random.Random], str | bytes]]] = [
    *((900, _in_block), (600, _mixed), (300, _digits), (300, _spaces), (200, _emoji), (300, _code)),
    *((300, _control_like), (100, _long_run), (150, _contractions), (250, _broken)),
]


def make_strings(data: Path) -> list[bytes]:
    """``NUM_STRINGS`` distinct strings, as bytes."""
    rng = random.Random(20240229)
    strings = dict.fromkeys(text.encode("utf-8") for text in [*_SENTENCES, *_CODE, *_EMOJI, *_CONTROL_LIKE, *_SPACES])
    strings |= dict.fromkeys(line.encode("utf-8") for line in _corpus_lines(data, rng))
    for count, make in _MAKERS:
        _add(strings, len(strings) + count, make, rng)
    _add(strings, NUM_STRINGS, _in_block, rng)
    return list(strings)[:NUM_STRINGS]


def _add(
    strings: dict[bytes, None], wanted: int, make: Callable[[random.Random], str | bytes], rng: random.Random
) -> None:
    while len(strings) < wanted:
        text = make(rng)
        raw = text if isinstance(text, bytes) else text.encode("utf-8")
        if not _NOT_UTF8.search(raw):
            strings[raw] = None


def encode_all(model: Path, strings: list[bytes]) -> dict[str, object]:
    """llama.cpp's ids of every string: as plain text, and with control tokens where that differs."""
    from llama_cpp import Llama

    llama = Llama(str(model), vocab_only=True, verbose=False)
    plain = [llama.tokenize(text, add_bos=False, special=False) for text in strings]
    parsed = [llama.tokenize(text, add_bos=False, special=True) for text in strings]
    with_controls = {i: parsed[i] for i in range(len(strings)) if parsed[i] != plain[i]}
    return {"plain": plain, "with_controls": with_controls}


def digest(ids: Sequence[int]) -> str:
    """CRC-32 of ids as little-endian i32, in eight hexadecimal digits."""
    return f"{zlib.crc32(struct.pack(f'<{len(ids)}i', *ids)):08x}"


def digest_all(model: Path, strings: list[bytes]) -> dict[str, object]:
    """``encode_all`` as digests, those of all strings in one row."""
    from llama_cpp import Llama

    llama = Llama(str(model), vocab_only=True, verbose=False)
    return {
        name: "".join(digest(llama.tokenize(text, add_bos=False, special=special)) for text in strings)
        for name, special in (("plain", False), ("with_controls", True))
    }


def digest_pretokenizers(metadata: Mapping[str, Any], strings: list[bytes]) -> dict[str, object]:
    """llama.cpp's ids of every string as digests, with each of ``_PRETOKENIZERS`` before the same BPE."""
    import gguf

    digests = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in _PRETOKENIZERS:
            path = Path(folder) / f"{name}.gguf"
            writer = gguf.GGUFWriter(path, "llama")
            writer.add_tokenizer_model("gpt2")
            writer.add_tokenizer_pre(name)
            writer.add_token_list(metadata["tokenizer.ggml.tokens"])
            writer.add_token_types(metadata["tokenizer.ggml.token_type"])
            writer.add_token_merges(metadata["tokenizer.ggml.merges"])
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.close()
            digests[name] = digest_all(path, strings)["plain"]
    return digests


def digest_bert(folder: Path, strings: list[bytes]) -> dict[str, object]:
    """The ids of transformers as digests, and its vocabulary by id."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    # Every malformed byte as one U+FFFD, which is what the product reads.
    texts = [re.sub("[\ud800-\udfff]", "\ufffd", raw.decode("utf-8", errors="surrogateescape")) for raw in strings]
    digests = "".join(digest(tokenizer(text).input_ids) for text in texts)
    pairs = [tokenizer(texts[i], texts[i + 1]) for i in range(0, 100, 2)]
    return {
        "tokens": tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))),
        "plain": digests,
        "pairs": [[pair.input_ids, pair.token_type_ids] for pair in pairs],
    }


def read_metadata(model: Path) -> dict[str, Any]:
    """The tokenizer's part of a GGUF file's metadata."""
    import gguf

    fields = gguf.GGUFReader(model).fields
    return {key: field.contents() for key, field in fields.items() if key.startswith("tokenizer.")}


def render_chats(template: str) -> list[str]:
    """Every chat of ``chats.json``, with a generation prompt and without, as transformers renders it."""
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered: list[str] = []
    for chat in json.loads((OUTPUT / "chats.json").read_text(encoding="utf-8")):
        for add_generation_prompt in (True, False):
            texts, _ = render_jinja_template(
                [chat["messages"]],
                tools=chat["tools"],
                chat_template=template,
                add_generation_prompt=add_generation_prompt,
            )
            rendered += texts
    return rendered


def write(name: str, value: Mapping[str, object]) -> None:
    """Write ``value`` as compressed JSON without a time stamp, so that equal content gives equal bytes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    path = OUTPUT / f"{name}.json.gz"
    path.write_bytes(gzip.compress(text.encode("utf-8"), compresslevel=9, mtime=0))
    print(f"{path.name}: {path.stat().st_size:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--digests", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--bert", action="append", default=[], metavar="NAME=DIR")
    arguments = parser.parse_args()
    strings = make_strings(arguments.data)
    # Latin-1 spells bytes one to one, so that broken UTF-8 survives JSON.
    write("strings", {"strings": [raw.decode("latin-1") for raw in strings]})
    for pair in arguments.model:
        name, _, file = pair.partition("=")
        metadata = read_metadata(Path(file))
        write(f"{name}_ids", encode_all(Path(file), strings))
        write(f"{name}_chats", {"rendered": render_chats(str(metadata["tokenizer.chat_template"]))})
        if name == "smollm2":
            write("smollm2_metadata", metadata)
            write("pretokenizers", digest_pretokenizers(metadata, strings))
        else:
            write(f"{name}_metadata", {"tokenizer.chat_template": metadata["tokenizer.chat_template"]})
    for pair in arguments.digests:
        name, _, file = pair.partition("=")
        write(f"{name}_ids", digest_all(Path(file), strings))
    for pair in arguments.bert:
        name, _, file = pair.partition("=")
        write(f"{name}_ids", digest_bert(Path(file), strings))


if __name__ == "__main__":
    main()
