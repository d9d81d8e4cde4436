"""The content hash of KV blocks: two blocks with equal hashes hold equal bits.

A block's hash covers its tokens and the hash of the block before it; the chain starts at a root that covers whatever
else the bits depend on. By the reduction-order rule a block does not depend on how its prompt was cut or batched, so
a hit changes no bit of any answer.
"""

from __future__ import annotations

import hashlib

from lepton_ai.backends.base import BLOCK_SIZE, Int32Array
from lepton_ai.engine.block_pool import BlockHash, BlockPool

_DIGEST_BYTES = 16


def root_hash(salt: bytes = b"") -> BlockHash:
    """Where a chain starts. ``salt`` keeps apart what must not be shared: tenants, adapters."""
    return BlockHash(hashlib.blake2b(salt, digest_size=_DIGEST_BYTES).digest())


def block_hash(parent: BlockHash, token_ids: Int32Array) -> BlockHash:
    """The hash of a full block of ``BLOCK_SIZE`` tokens after ``parent``."""
    assert len(token_ids) == BLOCK_SIZE
    return BlockHash(hashlib.blake2b(parent + token_ids.tobytes(), digest_size=_DIGEST_BYTES).digest())


def longest_hit(pools: tuple[BlockPool, ...], hashes: list[BlockHash]) -> tuple[list[int], ...]:
    """Blocks, per group, of the longest prefix of the chain that every group still holds."""
    tables: tuple[list[int], ...] = tuple([] for _ in pools)
    for content in hashes:
        found = [pool.lookup(content) for pool in pools]
        if None in found:
            break
        for table, block_id in zip(tables, found, strict=True):
            assert block_id is not None
            table.append(block_id)
    return tables
