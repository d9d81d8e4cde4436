"""A constraint as the engine applies it: which tokens may come next, and what became of those that came.

llguidance does the work. Its matchers never raise: an error is a state, which is looked at after each call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lepton_ai.backends.base import Int32Array
from lepton_ai.errors import ConstraintTooComplex

if TYPE_CHECKING:
    from llguidance import LLMatcher


class TokenMatcher:
    """The state of one generation. ``mask`` has the bit of each token that may come next, 32 in each word."""

    __slots__ = ("_matcher", "mask")

    def __init__(self, matcher: LLMatcher, num_words: int) -> None:
        self._matcher = matcher
        self.mask: Int32Array = np.zeros(num_words, np.int32)

    def copy(self) -> TokenMatcher:
        """Another generation in the same state."""
        made = TokenMatcher(self._matcher.deep_copy(), len(self.mask))
        made.mask[:] = self.mask
        return made

    @property
    def is_stopped(self) -> bool:
        """Whether the text is complete, and nothing but an end token may come."""
        return self._matcher.is_stopped()

    def accept(self, token_id: int) -> None:
        """Go on after a token that ``mask`` allowed, and find the next mask. Raises ConstraintTooComplex."""
        self._matcher.consume_token(token_id)
        if not self._matcher.is_error() and self._matcher.is_stopped():
            return
        self.find_mask()

    def find_mask(self) -> None:
        """Compute ``mask``. Raises ConstraintTooComplex where the state of the constraint exceeds its limits."""
        if not self._matcher.is_error():
            self._matcher.unsafe_compute_mask_ptr(self.mask.ctypes.data, self.mask.nbytes)
        if self._matcher.is_error():
            message = self._matcher.get_error().strip().splitlines()[0]
            raise ConstraintTooComplex(f"constraint: {message}", param="constraint")
