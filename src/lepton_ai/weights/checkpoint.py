"""Opening a checkpoint: a folder, or a file by what its first bytes say it is, whatever its name says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, TypeAlias

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.weights.files import open_regular
from lepton_ai.weights.folder import CheckpointFolder
from lepton_ai.weights.gguf import GGUFFile
from lepton_ai.weights.gguf_header import GGUF_MAGIC
from lepton_ai.weights.gguf_split import SplitGGUF, num_parts

_FOREIGN_FORMATS: Final = (
    (b"PK\x03\x04", "a zip archive, such as a PyTorch checkpoint"),
    (b"\x80\x02", "a Python pickle, such as a PyTorch checkpoint"),
    (b"\x89HDF", "an HDF5 file, such as a Keras checkpoint"),
    (b"lmgg", "a GGML file, the format before GGUF"),
    (b"fmgg", "a GGMF file, the format before GGUF"),
    (b"tjgg", "a GGJT file, the format before GGUF"),
)
_LFS_POINTER: Final = b"version https://git-lfs"


GGUFCheckpoint: TypeAlias = GGUFFile | SplitGGUF
"""A GGUF model, in one file or several."""

Checkpoint: TypeAlias = GGUFCheckpoint | CheckpointFolder
"""What can be opened; each is a ``WeightStore`` and a context manager."""


def open_checkpoint(path: Path, home: Path | None = None) -> Checkpoint:
    """The checkpoint at ``path``; ``home`` is where its digest is remembered.

    Of a model in several GGUF files, ``path`` is that of the first.

    Raises ModelNotFound if there is no file, UnsupportedModel for another format, InvalidModel for a file that is empty
    or malformed, WeightMismatch for files that do not belong together, and StorageError for one that cannot be read.
    """
    if os.path.isdir(path):
        return CheckpointFolder(path, home)
    return open_gguf(path, home)


def open_gguf(path: Path, home: Path | None = None) -> GGUFCheckpoint:
    """The GGUF model at ``path``. Raises like ``open_checkpoint``."""
    with open_regular(path) as file:
        _check_format(file.read(32), file.seek(0, 2), path)
    checkpoint = GGUFFile(path, home)
    try:
        if num_parts(checkpoint.metadata) <= 1:
            return checkpoint
    except BaseException:
        checkpoint.close()
        raise
    checkpoint.close()
    return SplitGGUF(path, home)


def _check_format(head: bytes, size: int, path: Path) -> None:
    if head.startswith(GGUF_MAGIC):
        return
    if head.startswith(_LFS_POINTER):
        raise InvalidModel(f"{path}: expected a GGUF file, got a Git LFS pointer to one", param="model")
    for magic, format_name in _FOREIGN_FORMATS:
        if head.startswith(magic):
            raise UnsupportedModel(f"{path}: expected a GGUF file, got {format_name}", param="model")
    if _is_safetensors(head, size):
        raise UnsupportedModel(f"{path}: expected a GGUF file, got a safetensors file", param="model")
    raise InvalidModel(f"{path}: expected a GGUF file, got one that starts with {head[:8]!r}", param="model")


def _is_safetensors(head: bytes, size: int) -> bool:
    """A u64 length, then a JSON object of that length."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8
