"""Are JSON schemas obeyed or refused? Random texts under each one's masks, judged by another validator.

    .venv/bin/python scripts/check_schemas.py FOLDER [--walks 5] [--model smollm2] [--json FILE]

FOLDER has JSON files, each a schema, or an object with ``schema`` and ``tests``, a list of ``{"data": ..., "valid":
...}``, as the public mask benchmark has them (guidance-ai/jsonschemabench). No model runs: a walk takes a random token
of those that the mask allows, which leads to places where no model would go. Counted are schemas that are obeyed,
schemas that are refused, by reason, and instances that are valid but not allowed (the order of properties is the
schema's, for one). A complete text that the validator refuses, or an invalid instance that is allowed, is a violation:
it is printed, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import jsonschema
import numpy as np
from rich.console import Console
from rich.progress import track

from lepton_ai import Constraint, LeptonError, Tokenizer
from lepton_ai.engine.constraints.compiler import ConstraintCompiler
from lepton_ai.engine.constraints.token_matcher import TokenMatcher

Schema: TypeAlias = Mapping[str, Any] | bool

_MAX_TOKENS = 400
_PLAIN_SHARE = 0.8
"""Of tokens that are taken from the plain ones where the mask allows some: else most walks go on for ever."""


@dataclass
class Counts:
    """What became of the schemas. ``num_cut`` walks did not come to an end."""

    num_schemas: int = 0
    num_obeyed: int = 0
    num_walks: int = 0
    num_cut: int = 0
    num_allowed: int = 0
    num_too_strict: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


class Checker:
    """Schemas under one vocabulary."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self._tokenizer = tokenizer
        self._compiler = ConstraintCompiler(tokenizer, tokenizer.vocab_size, tokenizer.eos_token_ids)
        self._ends = frozenset(tokenizer.eos_token_ids)
        spelled = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
        self._plain = np.array([len(text) == 1 and text in b'"{}[],:0123456789tfn' for text in spelled])
        self._random = random.Random(seed)
        self.counts = Counts()

    def check(self, name: str, schema: Schema, tests: Iterable[Mapping[str, object]], num_walks: int) -> None:
        """One schema."""
        self.counts.num_schemas += 1
        try:
            start = self._compiler.compile(Constraint.json_schema(schema))
        except LeptonError as error:
            self.counts.refused[_reason(error.message)] += 1
            return
        validator = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)(schema)
        before = len(self.counts.violations)
        for _ in range(num_walks):
            self._walk(name, start.copy(), validator)
        for test in tests:
            self._instance(name, start.copy(), test)
        self.counts.num_obeyed += len(self.counts.violations) == before

    def _walk(self, name: str, matcher: TokenMatcher, validator: jsonschema.protocols.Validator) -> None:
        self.counts.num_walks += 1
        ids: list[int] = []
        while not matcher.is_stopped:
            token_id = self._choose(matcher)
            if token_id in self._ends:
                break
            ids.append(token_id)
            if len(ids) == _MAX_TOKENS:
                self.counts.num_cut += 1
                return
            matcher.accept(token_id)
        text = self._tokenizer.decode(ids)
        try:
            validator.validate(json.loads(text))
        except (ValueError, jsonschema.ValidationError) as error:
            self.counts.violations.append(f"{name}: made {text!r:.300}: {str(error).splitlines()[0]:.200}")

    def _choose(self, matcher: TokenMatcher) -> int:
        allowed = np.unpackbits(matcher.mask.view(np.uint8), bitorder="little")[: len(self._plain)].astype(bool)
        plain = np.flatnonzero(allowed & self._plain)
        if len(plain) and self._random.random() < _PLAIN_SHARE:
            return int(self._random.choice(plain))
        return int(self._random.choice(np.flatnonzero(allowed)))

    def _instance(self, name: str, matcher: TokenMatcher, test: Mapping[str, object]) -> None:
        text = json.dumps(test["data"], ensure_ascii=False)
        is_allowed = self._allows(matcher, text)
        if test["valid"]:
            self.counts.num_allowed += is_allowed
            self.counts.num_too_strict += not is_allowed
        elif is_allowed:
            self.counts.violations.append(f"{name}: allows {text!r:.300}")

    def _allows(self, matcher: TokenMatcher, text: str) -> bool:
        for token_id in self._tokenizer.encode(text, add_special_tokens=False):
            if matcher.is_stopped or not _has(matcher, token_id):
                return False
            matcher.accept(token_id)
        return matcher.is_stopped or any(_has(matcher, end) for end in self._ends)


def _has(matcher: TokenMatcher, token_id: int) -> bool:
    return bool(int(matcher.mask[token_id // 32]) >> (token_id % 32) & 1)


def _reason(message: str) -> str:
    """The message without what belongs to one schema alone."""
    return message.partition("got: ")[2].partition(" <state>")[0].partition(": {")[0][:80] or message[:80]


def read_schemas(folder: Path) -> Iterator[tuple[str, Schema, list[Mapping[str, object]]]]:
    """Name, schema and instances of each file."""
    for path in sorted(folder.rglob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and "schema" in content:
            yield path.stem, content["schema"], content.get("tests", [])
        else:
            yield path.stem, content, []


def main(arguments: list[str] | None = None) -> int:
    """Check a folder and report. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Check that JSON schemas are obeyed or refused.")
    parser.add_argument("folder", type=Path, help="JSON files")
    parser.add_argument("--walks", type=int, default=5, help="random texts for each schema")
    parser.add_argument("--model", default="smollm2", help="whose vocabulary")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the counts")
    options = parser.parse_args(arguments)
    checker, console = Checker(Tokenizer.from_pretrained(options.model), options.seed), Console(stderr=True)
    for name, schema, tests in track(list(read_schemas(options.folder)), "schemas", console=console):
        checker.check(name, schema, tests, options.walks)
    counts = checker.counts
    num_refused = counts.refused.total()
    print(f"{counts.num_schemas} schemas: {counts.num_obeyed} obeyed, {num_refused} refused")
    print(f"{counts.num_walks} random texts, {counts.num_cut} of them not ended")
    print(f"valid instances: {counts.num_allowed} allowed, {counts.num_too_strict} not")
    for reason, count in counts.refused.most_common(20):
        print(f"  refused {count}: {reason}")
    for violation in counts.violations:
        print(f"  violation: {violation}")
    if options.json:
        options.json.write_text(json.dumps(vars(counts), indent=2), encoding="utf-8")
    return 1 if counts.violations else 0


if __name__ == "__main__":
    sys.exit(main())
