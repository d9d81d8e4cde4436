"""Who holds which KV block: the block tables of requests, over one pool per KV group."""

from __future__ import annotations

from collections.abc import Iterable

from lepton_ai.backends.base import BLOCK_SIZE
from lepton_ai.engine.block_pool import BlockHash, BlockPool
from lepton_ai.engine.prefix_cache import block_hash, longest_hit, root_hash
from lepton_ai.engine.request import Request


def num_blocks_for(num_tokens: int) -> int:
    """Blocks that hold ``num_tokens`` tokens."""
    return -(-num_tokens // BLOCK_SIZE)


class KVManager:
    """Gives requests blocks in every KV group, and finds prefixes that are still there.

    A group with a sliding window keeps the whole sequence too: a hit is then valid in all groups at once.
    """

    def __init__(self, num_groups: int, num_blocks: int) -> None:
        self.pools = tuple(BlockPool(num_blocks) for _ in range(num_groups))
        self.num_blocks = num_blocks
        self._root = root_hash()

    @property
    def num_tokens(self) -> int:
        """Tokens that fit in all."""
        return self.num_blocks * BLOCK_SIZE

    def attach(self, request: Request) -> None:
        """Give a request without blocks those that hold its prefix already. Its last token is always left to compute.

        It then holds shared blocks, and ``num_computed_tokens`` says how far they reach.
        """
        assert not request.block_tables and request.num_computed_tokens == 0
        full = (request.num_tokens - 1) // BLOCK_SIZE
        while len(request.hashes) < full:
            self._add_hash(request)
        tables = longest_hit(self.pools, request.hashes[:full])
        for pool, table in zip(self.pools, tables, strict=True):
            pool.share(table)
        request.block_tables = tables
        request.num_registered_blocks = len(tables[0])
        request.num_computed_tokens = len(tables[0]) * BLOCK_SIZE

    def extend(self, request: Request, num_new_tokens: int) -> bool:
        """Make room for ``num_new_tokens`` after the computed ones. False, and nothing taken, if blocks are lacking."""
        wanted = num_blocks_for(request.num_computed_tokens + num_new_tokens) - len(request.block_tables[0])
        if wanted <= 0:
            return True
        if any(pool.num_free < wanted for pool in self.pools):
            return False
        for pool, table in zip(self.pools, request.block_tables, strict=True):
            table += pool.allocate(wanted)
        return True

    def commit(self, request: Request) -> None:
        """Make the blocks that are now full known to other requests."""
        full = request.num_computed_tokens // BLOCK_SIZE
        while request.num_registered_blocks < full:
            index = request.num_registered_blocks
            if len(request.hashes) == index:
                self._add_hash(request)
            for pool, table in zip(self.pools, request.block_tables, strict=True):
                pool.register(table[index], request.hashes[index])
            request.num_registered_blocks += 1

    def release(self, request: Request) -> None:
        """Take all blocks back; what they hold can be found again until they are handed out."""
        if not request.block_tables:
            return
        for pool, table in zip(self.pools, request.block_tables, strict=True):
            pool.release(table)
        request.block_tables = ()
        request.num_registered_blocks = request.num_computed_tokens = 0

    def check_integrity(self, holders: Iterable[Request] = ()) -> None:
        """Assert that ``holders`` account for every reference."""
        tables = [r.block_tables for r in holders if r.block_tables]
        for index, pool in enumerate(self.pools):
            pool.check_integrity([t[index] for t in tables])

    def _add_hash(self, request: Request) -> None:
        start = len(request.hashes) * BLOCK_SIZE
        parent: BlockHash = request.hashes[-1] if request.hashes else self._root
        request.hashes.append(block_hash(parent, request.tokens[start : start + BLOCK_SIZE]))
