"""Who holds which KV block: the block tables of requests, over one pool per KV group."""

from __future__ import annotations

from collections.abc import Iterable

from lepton_ai.backends.base import BLOCK_SIZE
from lepton_ai.engine.block_pool import BlockHash, BlockPool
from lepton_ai.engine.plan import BlockCopy
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
        self._under_way: dict[BlockHash, Request] = {}
        self._copies: list[BlockCopy] = []

    @property
    def num_tokens(self) -> int:
        """Tokens that fit in all."""
        return self.num_blocks * BLOCK_SIZE

    @property
    def num_free(self) -> int:
        """Blocks that every group has left."""
        return min(pool.num_free for pool in self.pools)

    def hit(self, request: Request) -> int:
        """Blocks of a waiting request that are in the cache now."""
        return len(longest_hit(self.pools, self._prompt_hashes(request))[0])

    def is_under_way(self, request: Request, num_blocks: int) -> bool:
        """Whether another request is about to compute the block after the first ``num_blocks`` of a waiting one."""
        hashes = self._prompt_hashes(request)
        return num_blocks < len(hashes) and hashes[num_blocks] in self._under_way

    def attach(self, request: Request) -> None:
        """Give a request without blocks those that hold its prefix already. Its last token is always left to compute.

        It then holds shared blocks, and ``num_computed_tokens`` says how far they reach.
        """
        assert not request.block_tables and request.num_computed_tokens == 0
        if request.leader is not None and request.leader.has_shareable_prompt and not request.num_output_tokens:
            return self._fork(request, request.leader)
        hashes = self._prompt_hashes(request)
        tables = longest_hit(self.pools, hashes)
        for pool, table in zip(self.pools, tables, strict=True):
            pool.share(table)
        request.block_tables = tables
        request.num_registered_blocks = len(tables[0])
        request.num_computed_tokens = len(tables[0]) * BLOCK_SIZE
        for content in hashes[request.num_registered_blocks :]:
            self._under_way.setdefault(content, request)

    def extend(self, request: Request, num_new_tokens: int) -> bool:
        """Make room for ``num_new_tokens`` after the computed ones. False, and nothing taken, if blocks are lacking.

        A block that is written next and that others hold too is replaced by a copy: see ``take_copies``.
        """
        num_tokens = request.num_computed_tokens + num_new_tokens
        if not request.may_share_end and num_tokens <= len(request.block_tables[0]) * BLOCK_SIZE:
            return True  # most calls are for a token of a block that is there
        wanted = self.num_wanted(request, num_new_tokens)
        if not wanted:
            return True
        if wanted > self.num_free:
            return False
        if self._writes_shared(request):
            self._copy_on_write(request)
            wanted -= 1
        for pool, table in zip(self.pools, request.block_tables, strict=True):
            table += pool.allocate(wanted)
        return True

    def num_wanted(self, request: Request, num_new_tokens: int) -> int:
        """Blocks that a request with blocks lacks for ``num_new_tokens`` more, one to copy to among them."""
        missing = num_blocks_for(request.num_computed_tokens + num_new_tokens) - len(request.block_tables[0])
        return max(missing, 0) + self._writes_shared(request)

    def take_copies(self) -> tuple[BlockCopy, ...]:
        """The copies that are due before anything else is written, in order."""
        copies, self._copies = tuple(self._copies), []
        return copies

    def commit(self, request: Request) -> None:
        """Make the blocks that are now full known to other requests."""
        full = request.num_computed_tokens // BLOCK_SIZE
        while request.num_registered_blocks < full:
            index = request.num_registered_blocks
            if len(request.hashes) == index:
                self._add_hash(request)
            for pool, table in zip(self.pools, request.block_tables, strict=True):
                pool.register(table[index], request.hashes[index])
            self._not_under_way(request, request.hashes[index])
            request.num_registered_blocks += 1

    def release(self, request: Request) -> None:
        """Take all blocks back; what they hold can be found again until they are handed out."""
        if not request.block_tables:
            return
        for pool, table in zip(self.pools, request.block_tables, strict=True):
            pool.release(table)
        for content in request.hashes[request.num_registered_blocks :]:
            self._not_under_way(request, content)
        request.block_tables = ()
        request.may_share_end = False
        request.num_registered_blocks = request.num_computed_tokens = 0

    def check_integrity(self, holders: Iterable[Request] = ()) -> None:
        """Assert that ``holders`` account for every reference."""
        tables = [r.block_tables for r in holders if r.block_tables]
        for index, pool in enumerate(self.pools):
            pool.check_integrity([t[index] for t in tables])
        assert all(r.block_tables for r in self._under_way.values()), "a block is under way that nobody computes"

    def _fork(self, request: Request, leader: Request) -> None:
        """Share the whole prompt of ``leader``, a last block that is not full too. One token is left to compute."""
        num_blocks = num_blocks_for(request.num_prompt_tokens)
        request.block_tables = tuple(table[:num_blocks] for table in leader.block_tables)
        for pool, table in zip(self.pools, request.block_tables, strict=True):
            pool.share(table)
        full = request.num_prompt_tokens // BLOCK_SIZE
        request.hashes = leader.hashes[:full]
        request.num_registered_blocks = full
        request.num_computed_tokens = request.num_prompt_tokens - 1
        request.leader = None
        request.may_share_end = leader.may_share_end = True

    def _writes_shared(self, request: Request) -> bool:
        """Whether the block of the next token is there, and held by others too."""
        index = request.num_computed_tokens // BLOCK_SIZE
        tables = request.block_tables
        return request.may_share_end and index < len(tables[0]) and self.pools[0].is_shared(tables[0][index])

    def _copy_on_write(self, request: Request) -> None:
        index = request.num_computed_tokens // BLOCK_SIZE
        tables = []
        for group, (pool, table) in enumerate(zip(self.pools, request.block_tables, strict=True)):
            (target,) = pool.allocate(1)
            self._copies.append(BlockCopy(group, table[index], target))
            pool.release([table[index]])
            tables.append([*table[:index], target, *table[index + 1 :]])
        request.block_tables = tuple(tables)

    def _prompt_hashes(self, request: Request) -> list[BlockHash]:
        """Those of the full blocks that a request may find instead of computing them."""
        full = (request.num_tokens - 1) // BLOCK_SIZE
        while len(request.hashes) < full:
            self._add_hash(request)
        return request.hashes[:full]

    def _not_under_way(self, request: Request, content: BlockHash) -> None:
        if self._under_way.get(content) is request:
            del self._under_way[content]

    def _add_hash(self, request: Request) -> None:
        start = len(request.hashes) * BLOCK_SIZE
        parent: BlockHash = request.hashes[-1] if request.hashes else root_hash(request.tenant.encode())
        request.hashes.append(block_hash(parent, request.tokens[start : start + BLOCK_SIZE]))
