"""A request as the scheduler sees it: tokens, how many of them are computed, and the blocks that hold their KV."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from lepton_ai.backends.base import Float32Array, Int32Array
from lepton_ai.engine.constraints.token_matcher import TokenMatcher
from lepton_ai.engine.kv.block_pool import BlockHash
from lepton_ai.engine.outputs import TokenLogprob
from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.errors import ConstraintTooComplex, LeptonError


class FinishReason(enum.Enum):
    """Why a generation ended: a stop token or string, the end of its constraint, its length, its caller, an error."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    ERROR = "error"


@dataclass(frozen=True, slots=True, eq=False)
class Biases:
    """What is added to the logits of some tokens."""

    ids: Int32Array
    values: Float32Array

    @classmethod
    def of(cls, biases: Mapping[int, float]) -> Biases:
        """From a number for each token id."""
        return cls(np.array([*biases], np.int32), np.array([*biases.values()], np.float32))

    def without(self, forbidden: Iterable[int]) -> Biases:
        """The same, and these tokens never."""
        ids = np.array(sorted(forbidden), np.int32)
        values = np.full(len(ids), -np.inf, np.float32)
        return Biases(np.concatenate([self.ids, ids]), np.concatenate([self.values, values]))


@dataclass(slots=True, eq=False)
class Request:
    """One generation under way.

    ``tokens[:num_tokens]`` are prompt and output; ``token_view`` is the same memory, faster for one token. KV of the
    first ``num_computed_tokens`` is in the blocks of ``block_tables``, one table per KV group. Tables only grow; a
    pre-empted request gets new list objects. The first ``num_dropped_blocks`` entries of each have left the group's
    window: the request does not hold those blocks, and what is in them may be anybody's. ``hashes`` are those of its
    full blocks, ``num_registered_blocks`` of which the pool knows. It ends with length at ``max_tokens`` tokens in all.

    ``arrival`` is its number in the order of coming, ``queued_at`` the time of it in seconds, ``scheduled_at`` that of
    being let in first, ``prefilled_at`` that at which its prompt had been computed. ``num_overtaken`` counts younger
    ones that were let in first. ``priority`` and ``tenant`` are those of ``RequestOptions``. ``leader`` is the request
    that computes the prompt which this one shares; ``may_share_end``: others may hold the block it writes to.
    ``matcher`` follows its constraint, ``error`` is what ended it. ``prompt_logprobs``, if asked for, are those of the
    prompt's tokens after the first as far as they are known; the choices of a prompt share the list, and fill it once.
    """

    tokens: Int32Array
    token_view: memoryview
    num_prompt_tokens: int
    max_tokens: int
    params: SamplingParams
    stop_ids: frozenset[int]
    biases: Biases
    early_biases: Biases
    seed: int
    num_tokens: int
    priority: int = 0
    tenant: str = ""
    arrival: int = -1
    queued_at: float = 0.0
    scheduled_at: float | None = None
    prefilled_at: float | None = None
    num_overtaken: int = 0
    leader: Request | None = None
    may_share_end: bool = False
    matcher: TokenMatcher | None = None
    error: LeptonError | None = None
    prompt_logprobs: list[TokenLogprob] | None = None
    num_computed_tokens: int = 0
    num_cached_tokens: int | None = None
    block_tables: tuple[list[int], ...] = ()
    num_dropped_blocks: tuple[int, ...] = ()
    hashes: list[BlockHash] = field(default_factory=list)
    num_registered_blocks: int = 0
    finish_reason: FinishReason | None = None

    @classmethod
    def create(
        cls,
        prompt_ids: Int32Array,
        params: SamplingParams,
        *,
        max_tokens: int,
        eos_ids: frozenset[int] = frozenset(),
        options: RequestOptions | None = None,
        matcher: TokenMatcher | None = None,
    ) -> Request:
        """A request for a checked prompt; ``max_tokens`` counts the prompt, ``eos_ids`` are the model's end tokens."""
        options = options or RequestOptions()
        stop_ids = frozenset(params.stop_token_ids) | (frozenset() if params.ignore_eos else eos_ids)
        biases = Biases.of(params.logit_bias or {})
        tokens = np.empty(max_tokens, np.int32)
        tokens[: len(prompt_ids)] = prompt_ids
        return cls(
            tokens=tokens,
            token_view=tokens.data,
            num_prompt_tokens=len(prompt_ids),
            max_tokens=max_tokens,
            params=params,
            stop_ids=stop_ids,
            biases=biases,
            early_biases=biases.without(stop_ids) if params.min_tokens else biases,
            seed=int.from_bytes(os.urandom(8), "little") if params.seed is None else params.seed,
            num_tokens=len(prompt_ids),
            priority=options.priority,
            tenant=options.tenant,
            matcher=matcher,
            prompt_logprobs=None if params.prompt_logprobs is None else [],
        )

    def sibling(self, index: int) -> Request:
        """Another generation for the same prompt, number ``index`` of them: its seed is that much larger.

        It starts where this request is, which must not have begun.
        """
        assert not self.block_tables and self.num_tokens == self.num_prompt_tokens, "the request has begun"
        tokens = self.tokens.copy()
        seed = (self.seed + index) % 2**64
        matcher = None if self.matcher is None else self.matcher.copy()
        view = tokens.data
        return replace(self, tokens=tokens, token_view=view, seed=seed, hashes=[], leader=self, matcher=matcher)

    @property
    def is_before_output(self) -> bool:
        """Whether it is unfinished and its prompt is not computed."""
        return self.finish_reason is None and self.num_tokens == self.num_prompt_tokens

    @property
    def has_shareable_prompt(self) -> bool:
        """Whether its blocks hold the whole prompt."""
        return self.num_computed_tokens >= self.num_prompt_tokens

    @property
    def num_unscored_tokens(self) -> int:
        """Tokens of the prompt whose log-probability is wanted and not known."""
        return 0 if self.prompt_logprobs is None else self.num_prompt_tokens - 1 - len(self.prompt_logprobs)

    @property
    def known_prompt_logprobs(self) -> tuple[TokenLogprob | None, ...] | None:
        """Those of the whole prompt, None for its first token; None as long as they are not all known."""
        known = self.prompt_logprobs
        return None if known is None or self.num_unscored_tokens else (None, *known)

    @property
    def num_findable_tokens(self) -> int:
        """Tokens whose KV may be found instead of computed: not the last one's, nor where logits are still wanted."""
        num_unscored = self.num_unscored_tokens
        return self.num_prompt_tokens - 1 - num_unscored if num_unscored else self.num_tokens - 1

    @property
    def num_output_tokens(self) -> int:
        """Tokens that were sampled."""
        return self.num_tokens - self.num_prompt_tokens

    @property
    def current_biases(self) -> Biases:
        """Those of the next token: before ``min_tokens``, nothing may end the generation."""
        return self.early_biases if self.num_output_tokens < self.params.min_tokens else self.biases

    def append(self, token_id: int) -> None:
        """Add a sampled token, and see whether it was the last. An error of its constraint ends the request."""
        self.token_view[self.num_tokens] = token_id
        self.num_tokens += 1
        if token_id in self.stop_ids:
            self.finish_reason = FinishReason.STOP
        elif self.num_tokens == self.max_tokens:
            self.finish_reason = FinishReason.LENGTH
        if self.matcher is not None and self.finish_reason is not FinishReason.STOP:
            self._follow(self.matcher, token_id)

    def _follow(self, matcher: TokenMatcher, token_id: int) -> None:
        try:
            matcher.accept(token_id)
        except ConstraintTooComplex as error:
            self.error = error
            self.finish_reason = FinishReason.ERROR
        if matcher.is_stopped and self.error is None:
            self.finish_reason = FinishReason.STOP
