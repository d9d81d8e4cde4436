"""Layout of a packed file: a preamble, a JSON header, and a payload of named segments aligned to cache lines.

    0    magic "LEPTONPK"
    8    u32 format version, u32 bytes of the JSON header
    16   u64 bytes of the whole file
    24   SHA-256 of the JSON header
    64   JSON header: {"key": {...}, "sizes": [[name, bytes], ...]}
    ...  the payload, at the next multiple of 64 bytes: segments in that order, each at the next multiple of 64 bytes

Integers are little-endian. What the segments hold is the business of whoever packed them.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

FORMAT_VERSION: Final = 1
SEGMENT_ALIGNMENT: Final = 64
PREAMBLE_BYTES: Final = 64
MAX_HEADER_BYTES: Final = 64 << 20

_MAGIC: Final = b"LEPTONPK"
_PREAMBLE: Final = struct.Struct("<8sIIQ32s8x")


class CorruptHeader(Exception):
    """A file is not what this version of Lepton writes under its key; the message says why."""


@dataclass(frozen=True, slots=True)
class PackedKey:
    """What makes two packed forms of a model interchangeable.

    ``digest`` is that of the checkpoint's content, and after a hyphen how it is read if that is not in it; ``policy``
    the name of the precision policy, ``layout`` a string that changes whenever the packer would write other bytes
    (panel kinds, instruction set), ``rank`` the shard.
    """

    digest: str
    policy: str
    layout: str
    rank: int = 0

    def file_stem(self) -> str:
        """A file name without suffix, another one for every key and format version; all of a checkpoint begin alike."""
        text = json.dumps([FORMAT_VERSION, asdict(self)], sort_keys=True)
        return stem_prefix(self.digest) + hashlib.sha256(text.encode()).hexdigest()[:32]


def stem_prefix(digest: str) -> str:
    """How the file names of all packed forms of a checkpoint begin, however it is read. It may be any string."""
    return hashlib.sha256(digest.partition("-")[0].encode()).hexdigest()[:16] + "-"


@dataclass(frozen=True, slots=True)
class Segment:
    """Where one segment lies in the payload, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class PackedLayout:
    """All bytes before the payload, where the payload begins, and the segments in it."""

    head: bytes
    payload_offset: int
    payload_bytes: int
    segments: Mapping[str, Segment]

    @property
    def num_bytes(self) -> int:
        """Size of the file."""
        return self.payload_offset + self.payload_bytes


def lay_out(key: PackedKey, sizes: Mapping[str, int]) -> PackedLayout:
    """The layout of a new file with segments of ``sizes`` bytes."""
    header = json.dumps({"key": asdict(key), "sizes": [[name, int(size)] for name, size in sizes.items()]}).encode()
    payload_offset = _aligned(PREAMBLE_BYTES + len(header))
    segments, payload_bytes = _place(sizes)
    num_bytes = payload_offset + payload_bytes
    preamble = _PREAMBLE.pack(_MAGIC, FORMAT_VERSION, len(header), num_bytes, hashlib.sha256(header).digest())
    return PackedLayout(preamble + header, payload_offset, payload_bytes, segments)


def header_bytes(preamble: bytes, file_bytes: int) -> int:
    """Length of the JSON header of a file of ``file_bytes``. Raises CorruptHeader."""
    if len(preamble) < PREAMBLE_BYTES:
        raise CorruptHeader(f"{len(preamble)} bytes are no preamble")
    magic, version, length, num_bytes, _ = _PREAMBLE.unpack(preamble)
    if magic != _MAGIC or version != FORMAT_VERSION:
        raise CorruptHeader(f"magic {magic!r} and version {version} are not ours")
    if num_bytes != file_bytes or length > min(MAX_HEADER_BYTES, file_bytes - PREAMBLE_BYTES):
        raise CorruptHeader(f"sizes {num_bytes} and {length} do not fit a file of {file_bytes} bytes")
    return int(length)


def check_head(head: bytes, key: PackedKey, file_bytes: int) -> PackedLayout:
    """The layout of an existing file, from its preamble and header. Raises CorruptHeader unless it is for ``key``."""
    preamble, header = head[:PREAMBLE_BYTES], head[PREAMBLE_BYTES:]
    checksum = _PREAMBLE.unpack(preamble)[4]
    if hashlib.sha256(header).digest() != checksum:
        raise CorruptHeader("the header's checksum differs")
    # The checksum passed, so this is what lay_out wrote; what follows guards against other writers of the format.
    try:
        fields = json.loads(header)
        found_key, sizes = fields["key"], {str(name): int(size) for name, size in fields["sizes"]}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CorruptHeader(f"the header is malformed: {error}") from None
    if found_key != asdict(key) or len(sizes) != len(fields["sizes"]) or min(sizes.values(), default=0) < 0:
        raise CorruptHeader("the header is that of another key, or names a segment twice")
    segments, payload_bytes = _place(sizes)
    layout = PackedLayout(head, _aligned(len(head)), payload_bytes, segments)
    if layout.num_bytes != file_bytes:
        raise CorruptHeader(f"segments end at {layout.num_bytes} in a file of {file_bytes} bytes")
    return layout


def _place(sizes: Mapping[str, int]) -> tuple[dict[str, Segment], int]:
    """The segments, and the size of all with the padding between them."""
    segments: dict[str, Segment] = {}
    position = 0
    for name, size in sizes.items():
        segments[name] = Segment(position, size)
        position = _aligned(position + size)
    return segments, position


def _aligned(position: int) -> int:
    return -(-position // SEGMENT_ALIGNMENT) * SEGMENT_ALIGNMENT
