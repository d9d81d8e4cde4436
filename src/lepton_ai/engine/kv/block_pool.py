"""The KV blocks of one group: reference counts, an intrusive LRU list of the free ones, and the hash of what they hold.

A free block keeps its content, and its hash, until it is handed out again: that is the prefix cache's memory. Free
blocks without a hash go to the front of the list and are handed out first; hashed ones go to the back, so the
least recently used content is overwritten first. All operations are O(1) per block.

A block that leaves a sliding window goes to the back like any other. It would be tempting to overwrite it at once, but
the ends of prefixes are such blocks: a prompt that is sent again, or that shares a beginning, needs the window before
the place where it parts, and whoever computed that has left it behind. Blocks leave a window in the order of their
positions, and are overwritten in it: before those that the request still holds, and gives back at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NewType

BlockHash = NewType("BlockHash", bytes)
"""Identifies the tokens of a block and all before it: see prefix_cache."""


class BlockPool:
    """Blocks ``0 ... num_blocks-1`` of one KV group."""

    def __init__(self, num_blocks: int) -> None:
        assert num_blocks > 0
        self.num_blocks = num_blocks
        self.num_free = num_blocks
        self._ref_counts = [0] * num_blocks
        self._hashes: list[BlockHash | None] = [None] * num_blocks
        self._by_hash: dict[BlockHash, int] = {}
        # A ring of the free blocks through a sentinel, whose index is num_blocks.
        self._next = [*range(1, num_blocks + 1), 0]
        self._previous = [num_blocks, *range(num_blocks)]

    @property
    def num_held(self) -> int:
        """Blocks that are not free."""
        return self.num_blocks - self.num_free

    def allocate(self, count: int) -> list[int]:
        """Take ``count`` free blocks, each with one reference; what they held is forgotten.

        In ascending order, by which backends may lay them out.
        """
        assert count <= self.num_free, f"{count} blocks wanted, {self.num_free} free"
        block_ids = []
        for _ in range(count):
            block_id = self._next[self.num_blocks]
            self._unlink(block_id)
            self.forget(block_id)
            self._ref_counts[block_id] = 1
            block_ids.append(block_id)
        return sorted(block_ids)

    def share(self, block_ids: Iterable[int]) -> None:
        """Add a reference to each block; a free one is taken with its content."""
        for block_id in block_ids:
            if self._ref_counts[block_id] == 0:
                self._unlink(block_id)
            self._ref_counts[block_id] += 1

    def release(self, block_ids: Sequence[int]) -> None:
        """Drop a reference to each block of a table. The last block is freed first, so a prefix outlives its end."""
        self.release_in_order(reversed(block_ids))

    def release_in_order(self, block_ids: Iterable[int]) -> None:
        """Drop a reference to each block; of those that nobody holds then, the first is overwritten first."""
        for block_id in block_ids:
            self._ref_counts[block_id] -= 1
            assert self._ref_counts[block_id] >= 0, f"block {block_id} was released twice"
            if self._ref_counts[block_id] == 0:
                self._link(block_id)

    def register(self, block_id: int, block_hash: BlockHash) -> None:
        """Say what a held, full block contains. If another block has the same content, that one stays the known one."""
        assert self._ref_counts[block_id] > 0, f"block {block_id} is free"
        assert self._hashes[block_id] is None, f"block {block_id} has a hash"
        if block_hash not in self._by_hash:
            self._by_hash[block_hash] = block_id
            self._hashes[block_id] = block_hash

    def forget(self, block_id: int) -> None:
        """What the block holds is about to change: nobody finds it any more."""
        block_hash = self._hashes[block_id]
        if block_hash is not None:
            del self._by_hash[block_hash]
            self._hashes[block_id] = None

    def lookup(self, block_hash: BlockHash) -> int | None:
        """The block with this content, held or free."""
        return self._by_hash.get(block_hash)

    def blocks_of(self, hashes: Sequence[BlockHash]) -> list[int]:
        """The blocks with these contents, all of which are known."""
        return [self._by_hash[block_hash] for block_hash in hashes]

    def num_known(self, hashes: Sequence[BlockHash]) -> int:
        """How many of ``hashes`` are known until the first that is not."""
        known = self._by_hash
        for count, block_hash in enumerate(hashes):
            if block_hash not in known:
                return count
        return len(hashes)

    def is_shared(self, block_id: int) -> bool:
        """Whether more than one table holds the block."""
        return self._ref_counts[block_id] > 1

    def is_free(self, block_id: int) -> bool:
        """Whether nobody holds the block."""
        return self._ref_counts[block_id] == 0

    def free_block_ids(self) -> list[int]:
        """Free blocks in the order in which they will be handed out."""
        ids = []
        block_id = self._next[self.num_blocks]
        while block_id != self.num_blocks:
            ids.append(block_id)
            block_id = self._next[block_id]
        return ids

    def check_integrity(self, held: Iterable[Sequence[int]] = ()) -> None:
        """Assert every invariant; ``held`` are the tables that should account for all references."""
        expected = [0] * self.num_blocks
        for table in held:
            for block_id in table:
                expected[block_id] += 1
        assert self._ref_counts == expected, "reference counts do not match the tables"
        free = self.free_block_ids()
        assert len(free) == len(set(free)) == self.num_free, "the free list is damaged"
        assert all(expected[i] == 0 for i in free), "a held block is in the free list"
        assert self.num_free == expected.count(0), "a free block is not in the free list"
        known = {h: i for i, h in enumerate(self._hashes) if h is not None}
        assert known == self._by_hash, "hashes and blocks disagree"

    def _unlink(self, block_id: int) -> None:
        before, after = self._previous[block_id], self._next[block_id]
        self._next[before] = after
        self._previous[after] = before
        self.num_free -= 1

    def _link(self, block_id: int) -> None:
        sentinel = self.num_blocks
        before = sentinel if self._hashes[block_id] is None else self._previous[sentinel]
        after = self._next[before]
        self._next[before] = self._previous[after] = block_id
        self._previous[block_id], self._next[block_id] = before, after
        self.num_free += 1
