"""What the engine knows of a KV group: how many blocks it has, and which of a sequence's blocks its window shows."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from lepton_ai.backends.base import BLOCK_SIZE


def num_blocks_for(num_tokens: int) -> int:
    """Blocks that hold ``num_tokens`` tokens."""
    return -(-num_tokens // BLOCK_SIZE)


@dataclass(frozen=True, slots=True)
class KVGroup:
    """``num_blocks`` blocks of layers whose queries see the last ``window`` positions, their own too. None: all."""

    num_blocks: int
    window: int | None = None

    def first_visible(self, num_tokens: int) -> int:
        """The first block that a query after ``num_tokens`` tokens sees: none before it is needed any more.

        That query is at position ``num_tokens`` and sees those above ``num_tokens - window``.
        """
        return 0 if self.window is None else max(0, num_tokens - self.window + 1) // BLOCK_SIZE

    def capacity(self, *, step_tokens: int) -> int:
        """Tokens of one request that can be computed when it runs alone, in steps of at most ``step_tokens``."""
        if self.window is not None and self.num_blocks >= most_held(self.window, step_tokens):
            return sys.maxsize
        return self.num_blocks * BLOCK_SIZE


def most_held(window: int, step_tokens: int) -> int:
    """Blocks that a request holds at most in a group with a window, while a step computes ``step_tokens`` of it.

    What was there before the step reaches back a window from a block's beginning, and that block may lack but one
    token of being full.
    """
    return num_blocks_for(window) + num_blocks_for(BLOCK_SIZE - 1 + step_tokens)


def most_useful(window: int | None, *, max_num_seqs: int, step_tokens: int) -> int:
    """Blocks beyond which a group has no use for more: with a window, ``max_num_seqs`` requests hold only so many.

    Each has a window, two blocks that are full in part, and one that admission keeps free for it; they share one step's
    tokens. As many windows again hold the ends of cached prefixes while all of them run.
    """
    if window is None:
        return sys.maxsize
    return max_num_seqs * (2 * num_blocks_for(window) + 3) + num_blocks_for(step_tokens)
