"""Who holds which KV block: the block tables of requests, over one pool per KV group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lepton_ai.backends.base import BLOCK_SIZE
from lepton_ai.config import Limits
from lepton_ai.engine.kv.block_pool import BlockHash, BlockPool
from lepton_ai.engine.kv.group import KVGroup, num_blocks_for
from lepton_ai.engine.kv.prefix_cache import block_hash, longest_hit, root_hash
from lepton_ai.engine.plan import BlockCopy
from lepton_ai.engine.request import Request


class KVManager:
    """Gives requests blocks in every KV group, and finds prefixes that are still there.

    A request's tables are equally long in all groups. In a group with a window it gives blocks back once they have left
    the window; their entries stay in its table, and nobody reads what they point to.
    """

    def __init__(self, groups: Sequence[KVGroup]) -> None:
        self.groups = tuple(groups)
        self.pools = tuple(BlockPool(group.num_blocks) for group in groups)
        self._under_way: dict[BlockHash, Request] = {}
        self._copies: list[BlockCopy] = []

    def capacity(self, limits: Limits) -> int:
        """Tokens of one request that can be computed when it is alone in the whole memory."""
        return min(group.capacity(step_tokens=limits.max_tokens) for group in self.groups)

    @property
    def num_free(self) -> int:
        """Blocks that every group has left."""
        return min(pool.num_free for pool in self.pools)

    @property
    def fullest(self) -> BlockPool:
        """The pool of which the largest share is held; of several, the largest."""
        return max(self.pools, key=lambda pool: (pool.num_held / pool.num_blocks, pool.num_blocks))

    def hit(self, request: Request) -> int:
        """Blocks of the longest prefix of a waiting request that is in the cache now."""
        return longest_hit(self.groups, self.pools, self._prompt_hashes(request))

    def is_under_way(self, request: Request, num_blocks: int) -> bool:
        """Whether another request is about to compute the block after the first ``num_blocks`` of a waiting one."""
        hashes = self._prompt_hashes(request)
        return num_blocks < len(hashes) and hashes[num_blocks] in self._under_way

    def attach(self, request: Request) -> None:
        """Give a request without blocks those that hold its prefix already. Its last token is always left to compute.

        It then holds shared blocks, and ``num_computed_tokens`` says how far they reach.
        """
        assert not request.block_tables and request.num_computed_tokens == 0
        leader = request.leader
        if leader is not None and leader.has_shareable_prompt and not request.num_output_tokens:
            tables = self._prompt_tables(request, leader)
            if tables is not None:
                return self._fork(request, leader, tables)
        hashes = self._prompt_hashes(request)
        num_blocks = longest_hit(self.groups, self.pools, hashes)
        dropped = self._num_invisible(num_blocks * BLOCK_SIZE)
        self._hold(
            request,
            # Any valid id stands where no query looks.
            [
                [0] * first + pool.blocks_of(hashes[first:num_blocks])
                for pool, first in zip(self.pools, dropped, strict=True)
            ],
            dropped,
        )
        request.num_registered_blocks = num_blocks
        request.num_computed_tokens = num_blocks * BLOCK_SIZE
        for content in hashes[num_blocks:]:
            self._under_way.setdefault(content, request)

    def extend(self, request: Request, num_new_tokens: int) -> bool:
        """Make room for ``num_new_tokens`` after the computed ones. False, and nothing taken, if blocks are lacking.

        A block that is written next and that others hold too is replaced by a copy: see ``take_copies``.
        """
        num_tokens = request.num_computed_tokens + num_new_tokens
        if not request.may_share_end and num_tokens <= len(request.block_tables[0]) * BLOCK_SIZE:
            return True  # most calls are for a token of a block that is there
        wanted = self.num_wanted(request, num_new_tokens)
        if wanted > self.num_free:
            return False
        if self._writes_shared(request):
            self._copy_on_write(request)
            wanted -= 1
        self._forget_overwritten(request)
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
        """Make the blocks that are now full known to other requests, and give back those that left a window.

        What the query after the last full block sees is kept: whoever finds the prefix up to there needs it.
        """
        full = request.num_computed_tokens // BLOCK_SIZE
        while request.num_registered_blocks < full:
            index = request.num_registered_blocks
            if len(request.hashes) == index:
                self._add_hash(request)
            for pool, table in zip(self.pools, request.block_tables, strict=True):
                pool.register(table[index], request.hashes[index])
            self._not_under_way(request, request.hashes[index])
            request.num_registered_blocks += 1
        self._drop_invisible(request, full * BLOCK_SIZE)

    def release(self, request: Request) -> None:
        """Take all blocks back; what they hold can be found again until they are handed out."""
        if not request.block_tables:
            return
        for pool, held in zip(self.pools, _held(request), strict=True):
            pool.release(held)
        for content in request.hashes[request.num_registered_blocks :]:
            self._not_under_way(request, content)
        request.block_tables, request.num_dropped_blocks = (), ()
        request.may_share_end = False
        request.num_registered_blocks = request.num_computed_tokens = 0

    def check_integrity(self, holders: Iterable[Request] = ()) -> None:
        """Assert that ``holders`` account for every reference, and hold all that they still see."""
        holders = [r for r in holders if r.block_tables]
        for index, pool in enumerate(self.pools):
            pool.check_integrity([_held(r)[index] for r in holders])
        for request in holders:
            assert len({len(table) for table in request.block_tables}) == 1, "tables of one request differ in length"
            visible = self._num_invisible(request.num_computed_tokens)
            dropped = zip(request.num_dropped_blocks, visible, strict=True)
            assert all(count <= first for count, first in dropped), "a block was given back that is still seen"
        assert all(r.block_tables for r in self._under_way.values()), "a block is under way that nobody computes"

    def _prompt_tables(self, request: Request, leader: Request) -> list[list[int]] | None:
        """The tables of the whole prompt of ``leader``, a last block that is not full too.

        A leader may be past blocks that the last token of its prompt sees; they are looked up by what they hold. None
        if one is not there any more.
        """
        num_blocks, full = num_blocks_for(request.num_prompt_tokens), request.num_prompt_tokens // BLOCK_SIZE
        tables = []
        for group, (pool, first) in enumerate(zip(self.pools, self._forked_from(request), strict=True)):
            table = leader.block_tables[group][:num_blocks]
            for index in range(first, min(leader.num_dropped_blocks[group], num_blocks)):
                found = pool.lookup(leader.hashes[index]) if index < full else None
                if found is None:
                    return None
                table[index] = found
            tables.append(table)
        return tables

    def _fork(self, request: Request, leader: Request, tables: list[list[int]]) -> None:
        """Share the whole prompt of ``leader``. One token is left to compute."""
        self._hold(request, tables, self._forked_from(request))
        full = request.num_prompt_tokens // BLOCK_SIZE
        request.hashes = leader.hashes[:full]
        request.num_registered_blocks = full
        request.num_computed_tokens = request.num_prompt_tokens - 1
        request.leader = None
        request.may_share_end = leader.may_share_end = True

    def _hold(self, request: Request, tables: list[list[int]], dropped: tuple[int, ...]) -> None:
        for pool, table, first in zip(self.pools, tables, dropped, strict=True):
            pool.share(table[first:])
        request.block_tables, request.num_dropped_blocks = tuple(tables), dropped

    def _forked_from(self, request: Request) -> tuple[int, ...]:
        """For each group, the first block that the last token of the prompt sees."""
        return self._num_invisible(request.num_prompt_tokens - 1)

    def _num_invisible(self, num_tokens: int) -> tuple[int, ...]:
        """For each group, how many blocks no query after ``num_tokens`` tokens sees."""
        return tuple(group.first_visible(num_tokens) for group in self.groups)

    def _drop_invisible(self, request: Request, num_tokens: int) -> None:
        """Give back, in each group, what no query after ``num_tokens`` tokens sees. Tables stay as they are."""
        before, now = request.num_dropped_blocks, self._num_invisible(num_tokens)
        if now == before:
            return
        request.num_dropped_blocks = tuple(map(max, before, now))
        for pool, table, first, end in zip(self.pools, request.block_tables, before, now, strict=True):
            pool.release_in_order(table[first:end])

    def _writes_shared(self, request: Request) -> bool:
        """Whether the block of the next token is there, and in some group held by others too."""
        index = request.num_computed_tokens // BLOCK_SIZE
        tables = request.block_tables
        return (
            request.may_share_end
            and index < len(tables[0])
            and any(pool.is_shared(table[index]) for pool, table in zip(self.pools, tables, strict=True))
        )

    def _copy_on_write(self, request: Request) -> None:
        """Others may hold the block in some groups only: those whose window they have not gone on from."""
        index = request.num_computed_tokens // BLOCK_SIZE
        tables = list(request.block_tables)
        for group, (pool, table) in enumerate(zip(self.pools, request.block_tables, strict=True)):
            if pool.is_shared(table[index]):
                (target,) = pool.allocate(1)
                self._copies.append(BlockCopy(group, table[index], target))
                pool.release([table[index]])
                tables[group] = [*table[:index], target, *table[index + 1 :]]
        request.block_tables = tuple(tables)

    def _forget_overwritten(self, request: Request) -> None:
        """Others may have filled the block of the next token, and left: what they wrote there is overwritten."""
        index = request.num_computed_tokens // BLOCK_SIZE
        if request.may_share_end and request.num_registered_blocks <= index < len(request.block_tables[0]):
            for pool, table in zip(self.pools, request.block_tables, strict=True):
                pool.forget(table[index])

    def _prompt_hashes(self, request: Request) -> list[BlockHash]:
        """Those of the full blocks that a request may find instead of computing them."""
        full = request.num_findable_tokens // BLOCK_SIZE
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


def _held(request: Request) -> list[list[int]]:
    """What a request holds of each group."""
    return [table[first:] for table, first in zip(request.block_tables, request.num_dropped_blocks, strict=True)]
