"""The content hash of KV blocks: two blocks with equal hashes hold equal bits.

A block's hash covers its tokens and the hash of the block before it; the chain starts at a root that covers whatever
else the bits depend on. By the reduction-order rule a block does not depend on how its prompt was cut or batched, so
a hit changes no bit of any answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from lepton_ai.backends.base import BLOCK_SIZE, Int32Array
from lepton_ai.engine.kv.block_pool import BlockHash, BlockPool
from lepton_ai.engine.kv.group import KVGroup

_DIGEST_BYTES = 16


def root_hash(salt: bytes = b"") -> BlockHash:
    """Where a chain starts. ``salt`` keeps apart what must not be shared: tenants, adapters."""
    return BlockHash(hashlib.blake2b(salt, digest_size=_DIGEST_BYTES).digest())


def block_hash(parent: BlockHash, token_ids: Int32Array) -> BlockHash:
    """The hash of a full block of ``BLOCK_SIZE`` tokens after ``parent``."""
    assert len(token_ids) == BLOCK_SIZE
    return BlockHash(hashlib.blake2b(parent + token_ids.tobytes(), digest_size=_DIGEST_BYTES).digest())


def longest_hit(groups: Sequence[KVGroup], pools: Sequence[BlockPool], hashes: Sequence[BlockHash]) -> int:
    """Blocks of the longest prefix of the chain after which every group has what the next query sees.

    That is all of it in a group without a window, and the end of it in one with a window.
    """
    length, windowed = len(hashes), []
    for group, pool in zip(groups, pools, strict=True):
        if group.window is None:
            length = pool.num_known(hashes[:length])
        else:
            windowed.append((group, pool))
    before = -1
    while length != before:  # what one window lacks may take the end from under another
        before = length
        for group, pool in windowed:
            length = _cut_to_window(group, pool, hashes, length)
    return length


def _cut_to_window(group: KVGroup, pool: BlockPool, hashes: Sequence[BlockHash], length: int) -> int:
    """The longest prefix of at most ``length`` blocks that ends with a whole window. Looks each block up once."""
    index, start = length, group.first_visible(length * BLOCK_SIZE)
    while index > start:
        index -= 1
        if pool.lookup(hashes[index]) is None:
            length, start = index, group.first_visible(index * BLOCK_SIZE)
    return length
