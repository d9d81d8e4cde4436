"""Opening model files: what is missing, no file, or empty is refused here, by name. How names in them are shown. And
how a file is put in the place of another.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from lepton_ai.errors import InvalidModel, LeptonError, ModelNotFound, StorageError, UnsupportedModel

_SHOWN_CHARACTERS: Final = 80


def open_regular(path: Path) -> io.FileIO:
    """``path`` opened for reading, unbuffered.

    Raises ModelNotFound if nothing is there, UnsupportedModel for a directory or a device, InvalidModel for an empty
    file and StorageError if it cannot be read.
    """
    try:
        file = io.FileIO(path, "rb", opener=_open_without_waiting)
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from None
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_size:
        return file
    file.close()
    if not stat.S_ISREG(status.st_mode):
        raise UnsupportedModel(f"{path}: expected a file, got a pipe, socket or device", param="model")
    raise InvalidModel(f"{path}: expected a model, got an empty file", param="model")


def replace_file(path: Path, content: bytes, *, mode: int = 0o600, is_durable: bool = False) -> None:
    """Put ``content`` in the place of what is at ``path``, at once: it is written beside it and renamed.

    ``is_durable`` waits until the disk has it. Raises OSError; what was there is there then.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if is_durable:
                os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def shown(text: str) -> str:
    """A name of a foreign file as it may stand in a message: quoted, control characters escaped, cut when long."""
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...")


def _open_without_waiting(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a pipe would wait for a writer.
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _refusal(path: Path, error: OSError | ValueError) -> LeptonError:
    if isinstance(error, IsADirectoryError):
        return UnsupportedModel(f"{path}: expected a GGUF file, got a directory", param="model")
    is_missing = isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
    if is_missing or isinstance(error, ValueError):
        return ModelNotFound(f"{path}: expected a model file, got a path where there is none", param="model")
    return StorageError(f"{path}: cannot be read: {error.strerror}", param="model")
