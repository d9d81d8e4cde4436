"""Constraints compiled for the vocabulary of a model, by llguidance."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from types import SimpleNamespace
from typing import TYPE_CHECKING

from lepton_ai.engine.constraints.constraint import JSON_WHITESPACE, Constraint, ConstraintKind
from lepton_ai.engine.constraints.schema_limits import check_joined_patterns
from lepton_ai.engine.constraints.token_matcher import TokenMatcher
from lepton_ai.errors import InvalidRequest
from lepton_ai.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLTokenizer

_MAX_KEPT = 64


class ConstraintCompiler:
    """Compiles constraints for one vocabulary; those used lately are kept. Safe to use from several threads."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, eos_ids: Iterable[int]) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._eos_ids = sorted(token_id for token_id in eos_ids if token_id < vocab_size)
        self._lock = threading.Lock()
        self._vocabulary: LLTokenizer | None = None
        self._kept: OrderedDict[Constraint, TokenMatcher] = OrderedDict()

    def compile(self, constraint: Constraint) -> TokenMatcher:
        """The matcher at the beginning of a text.

        Raises InvalidRequest for what the compiler does not support or a model without an end token,
        ConstraintTooComplex for what exceeds its limits.
        """
        with self._lock:
            kept = self._kept.get(constraint)
            if kept is not None:
                self._kept.move_to_end(constraint)
                return kept.copy()
            if self._vocabulary is None:
                self._vocabulary = self._make_vocabulary()
        made = self._make(constraint, self._vocabulary)
        with self._lock:
            self._kept[constraint] = made
            if len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
        return made.copy()

    def _make(self, constraint: Constraint, vocabulary: LLTokenizer) -> TokenMatcher:
        from llguidance import LLMatcher

        if constraint.kind is ConstraintKind.JSON_SCHEMA:
            check_joined_patterns(constraint.source)
            try:
                grammar = LLMatcher.grammar_from_json_schema(
                    constraint.source, defaults={"whitespace_pattern": JSON_WHITESPACE}, overrides={"lenient": False}
                )
            except ValueError as error:  # numbers of hundreds of digits, more than a hundred levels
                raise InvalidRequest(
                    f"constraint: expected one that compiles, got: {error}", param="constraint"
                ) from None
        elif constraint.kind is ConstraintKind.REGEX:
            grammar = LLMatcher.grammar_from_regex(constraint.source)
        else:
            grammar = LLMatcher.grammar_from_lark(constraint.source)
        matcher = LLMatcher(vocabulary, grammar, log_level=0)
        if matcher.is_error():
            message = " ".join(matcher.get_error().split())[:500]
            raise InvalidRequest(f"constraint: expected one that compiles, got: {message}", param="constraint")
        made = TokenMatcher(matcher, -(-self._vocab_size // 32))
        made.find_mask()
        return made

    def _make_vocabulary(self) -> LLTokenizer:
        from llguidance import LLTokenizer, TokenizerWrapper

        if not self._eos_ids:
            raise InvalidRequest("constraint: expected a model with an end token", param="constraint")
        tokenizer = self._tokenizer
        known = min(tokenizer.vocab_size, self._vocab_size)
        described = SimpleNamespace(
            eos_token_id=self._eos_ids[0],
            bos_token_id=tokenizer.bos_id,
            tokens=[tokenizer.token_bytes(i) for i in range(known)] + [b""] * (self._vocab_size - known),
            special_token_ids=[i for i in range(known) if tokenizer.is_control(i)],
        )
        wrapper = TokenizerWrapper(_Callable(described, tokenizer))
        return LLTokenizer(wrapper, n_vocab=self._vocab_size, eos_token=self._eos_ids)


class _Callable:
    """What llguidance asks of a tokenizer: fields, and a call that encodes text."""

    def __init__(self, described: SimpleNamespace, tokenizer: Tokenizer) -> None:
        self.__dict__.update(vars(described))
        self._tokenizer = tokenizer

    def __call__(self, text: bytes) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)
