"""Mutated ``tokenizer.json`` files: refused by a typed error, or a tokenizer that keeps its promises."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest

from lepton_ai.errors import InvalidModel
from lepton_ai.text.folder import vocabulary_of
from lepton_ai.text.tokenizer import Tokenizer

from .hf_folders import MAKERS

VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**70, 1.5, "", "a", "▁", "<s>", "[CLS]", "\u0000", "x" * 100, [], {}),
    *([0], ["a", "b"], {"type": "Sequence"}, {"type": "NFC"}, {"String": "a"}, {"Regex": r"\s+"}, {"Regex": "(a*)*"}),
]
TEXT = "The quick <s>[CLS] fóx\n\n天 </s> 😀"


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every value; of long containers to the first few only."""
    paths = [path] if path else []
    keys = (
        list(value)[:12] if isinstance(value, dict) else range(min(len(value), 12)) if isinstance(value, list) else []
    )
    for key in keys:
        paths += _places(value[key], (*path, key))
    return paths


def _mutate(file: dict[str, Any], rng: random.Random) -> None:
    *parents, key = rng.choice(_places(file))
    holder: Any = file
    for parent in parents:
        holder = holder[parent]
    choice = rng.random()
    if choice < 0.2:
        del holder[key]
    elif choice < 0.3 and isinstance(holder, dict):
        holder[rng.choice(["type", "content", "id", "a", "<s>"])] = holder.pop(key)
    elif choice < 0.4 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    else:
        holder[key] = copy.deepcopy(rng.choice(VALUES))


@pytest.mark.parametrize("name", MAKERS)
def test_mutated_files(name: str) -> None:
    rng = random.Random(name)
    whole = json.loads(MAKERS[name]().to_str())
    num_read = num_refused = 0
    for _ in range(300):
        file = copy.deepcopy(whole)
        for _ in range(rng.randint(1, 2)):
            _mutate(file, rng)
        try:
            tokenizer = Tokenizer(vocabulary_of({"tokenizer.json": json.dumps(file).encode()}))
        except InvalidModel:
            num_refused += 1
            continue
        num_read += 1
        ids = tokenizer.encode(TEXT, add_special_tokens=False)
        assert all(0 <= token_id < tokenizer.vocab_size for token_id in ids)
        assert not any(i != tokenizer.role_ids.get("unk") and tokenizer.is_control(i) for i in ids)
        tokenizer.decode(tokenizer.encode(TEXT), skip_special_tokens=False)
    assert num_read > 20 and num_refused > 20
