"""What ``lepton tune`` found out about this host, kept in a file: read whenever a device is made.

A file of another host, of another build of the native core or for another instruction set says nothing of this one:
the defaults hold. One that is not what Lepton writes is an error, never half obeyed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.host import Host, read_host
from lepton_ai.backends.cpu.tuning import Tuning, tuning_from
from lepton_ai.errors import InvalidModel, InvalidRequest, StorageError
from lepton_ai.weights.digest import file_digest
from lepton_ai.weights.files import open_regular, replace_file
from lepton_ai.weights.json_object import parse_object

FILE_NAME = "tuning.json"

_VERSION = 1
_MAX_BYTES = 1 << 20
_MAX_THREADS = 256
_FIELDS = frozenset(("version", "host", "native", "isa", "num_threads", "tuning", "evidence"))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTuning:
    """The content of the file. ``native`` is the SHA-256 of the native core, ``evidence`` what was measured."""

    host: Host
    native: str
    isa: str
    num_threads: int
    tuning: Tuning
    evidence: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class TuningInForce:
    """How a device is tuned if nobody says otherwise. ``num_threads`` None: one for each usable core.

    ``source`` says where that comes from; ``evidence`` is what was measured, None where the defaults hold.
    """

    tuning: Tuning
    num_threads: int | None
    source: str
    evidence: Mapping[str, object] | None


def native_digest(home: Path) -> str:
    """Hex SHA-256 of the native core, remembered under ``home``."""
    path = Path(str(_native.__file__))
    with open_regular(path) as file:
        return file_digest(file, home=home, label=str(path))


def tuning_in_force(home: Path, isa: str) -> TuningInForce:
    """The stored tuning if it is one of this host, this native core and ``isa``, else the defaults.

    Raises InvalidRequest for a file that is not what Lepton writes, StorageError for one that cannot be read.
    """
    path, stored = home / FILE_NAME, read_tuning(home)
    if stored is None:
        return _defaults(isa, "defaults; `lepton tune` measures whether others are faster here")
    here = asdict(read_host())
    for name, value in asdict(stored.host).items():
        if value != here[name]:
            return _defaults(isa, f"defaults: {path} is of another host ({name} {value!s:.80}, here {here[name]})")
    if stored.isa != isa:
        return _defaults(isa, f"defaults: {path} is for the instruction set {stored.isa}")
    if stored.native != native_digest(home):
        return _defaults(isa, f"defaults: {path} was measured with another build of Lepton's native core")
    return TuningInForce(stored.tuning, stored.num_threads, str(path), stored.evidence)


def _defaults(isa: str, source: str) -> TuningInForce:
    return TuningInForce(Tuning.default(isa), None, source, evidence=None)


def read_tuning(home: Path) -> StoredTuning | None:
    """What the file holds, whatever host it is of; None without a file. Raises like ``tuning_in_force``."""
    path = home / FILE_NAME
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}", param="LEPTON_HOME") from None
    try:
        if len(data) > _MAX_BYTES:
            raise InvalidModel(f"expected at most {_MAX_BYTES} bytes")
        return _parse(parse_object(data, "the file"))
    except (InvalidModel, InvalidRequest) as error:
        raise InvalidRequest(f"{path}: {error.message}; `lepton tune --reset` removes it", param=FILE_NAME) from None


def _parse(content: Mapping[str, object]) -> StoredTuning:
    if content.get("version") != _VERSION:
        raise InvalidRequest(f"version: expected {_VERSION}, got {content.get('version')!r:.40}")
    if content.keys() != _FIELDS:
        wrong = min(content.keys() ^ _FIELDS)
        raise InvalidRequest(f"expected the fields {', '.join(sorted(_FIELDS))}; {wrong!r:.60} differs")
    isa, num_threads = _text(content, "isa"), content["num_threads"]
    if isinstance(num_threads, bool) or not isinstance(num_threads, int) or not 1 <= num_threads <= _MAX_THREADS:
        raise InvalidRequest(f"num_threads: expected 1 ... {_MAX_THREADS}, got {num_threads!r:.40}")
    host = _object(content, "host")
    if host.keys() != {field.name for field in fields(Host)}:
        raise InvalidRequest(f"host: expected {', '.join(field.name for field in fields(Host))}")
    num_cores = host["num_cores"]
    if isinstance(num_cores, bool) or not isinstance(num_cores, int):
        raise InvalidRequest(f"host: expected num_cores as an integer, got {num_cores!r:.40}")
    values = _object(content, "tuning")
    # On a machine without that instruction set it is another host's: numbers are then not looked at, nor used.
    tuning = tuning_from(values, isa) if isa in _native.available_isas() else Tuning.default("generic")
    return StoredTuning(
        host=Host(_text(host, "processor"), _text(host, "architecture"), num_cores, _text(host, "caches")),
        native=_text(content, "native"),
        isa=isa,
        num_threads=num_threads,
        tuning=tuning,
        evidence=_object(content, "evidence"),
    )


def _object(content: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = content[name]
    if not isinstance(value, dict):
        raise InvalidRequest(f"{name}: expected an object, got {type(value).__name__}")
    return value


def _text(content: Mapping[str, object], name: str) -> str:
    value = content[name]
    if not isinstance(value, str):
        raise InvalidRequest(f"{name}: expected a text, got {type(value).__name__}")
    return value


def write_tuning(home: Path, stored: StoredTuning) -> Path:
    """Put it in the place of what is stored, at once. Returns the path. Raises StorageError."""
    path = home / FILE_NAME
    text = json.dumps({"version": _VERSION, **asdict(stored)}, indent=1, allow_nan=False) + "\n"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, text.encode(), is_durable=True)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}", param="LEPTON_HOME") from None
    return path


def remove_tuning(home: Path) -> bool:
    """Remove the file, whatever it holds. Returns whether there was one. Raises StorageError."""
    try:
        (home / FILE_NAME).unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StorageError(f"{home / FILE_NAME}: {error.strerror or error}", param="LEPTON_HOME") from None
    return True
