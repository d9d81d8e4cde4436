"""A model out of a repository of the Hugging Face Hub or a mirror of it, through ``huggingface_hub``."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils.tqdm import tqdm

from lepton_ai.errors import DigestMismatch, DownloadFailed
from lepton_ai.version import __version__
from lepton_ai.weights.sources.download import sha256_of
from lepton_ai.weights.sources.folder_files import CONFIG, choose_files, is_weights
from lepton_ai.weights.sources.hub_errors import hub_errors
from lepton_ai.weights.sources.library import Library
from lepton_ai.weights.sources.manifest import Manifest, ModelFile
from lepton_ai.weights.sources.progress import Bar, Progress
from lepton_ai.weights.sources.references import HubReference
from lepton_ai.weights.sources.storage import check_space, storage_errors

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class _RemoteFile:
    """A file of a repository. ``sha256`` is None for a small one, which the hub knows by a digest of Git's."""

    path: str
    size_bytes: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What of a repository is fetched, at one commit. ``files``: by the names that they get."""

    commit: str
    licence: str
    files: Mapping[str, _RemoteFile]


class HubPuller:
    """Fetches models from the hub that ``huggingface_hub`` is configured for: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE."""

    def __init__(self, library: Library, progress: Progress) -> None:
        self._library = library
        self._progress = progress

    def pull(self, reference: HubReference, *, name: str, licence: str | None = None) -> Path:
        """The model's file or folder, called ``name`` here, fetched unless it is here.

        The revision is resolved to a commit once, and all files are of that commit. ``licence`` None takes what the
        repository says. Raises ModelNotFound, UnsupportedModel for pickles, DownloadFailed, DigestMismatch and
        StorageError.
        """
        return self._library.get_or_add(name, self._progress, lambda: self._pull_locked(reference, name, licence))

    def _pull_locked(self, reference: HubReference, name: str, licence: str | None) -> Path:
        self._progress.describe(f"asking for {reference.name}")
        downloads = self._library.downloads(name)
        snapshot = _ask(reference, downloads)
        with storage_errors(downloads):
            downloads.mkdir(parents=True, exist_ok=True)
            there_bytes = sum(file.stat().st_size for file in downloads.rglob("*") if file.is_file())
        try:
            wanted_bytes = sum(file.size_bytes for file in snapshot.files.values())
            check_space(downloads, max(wanted_bytes - there_bytes, 0))
            self._progress.describe(f"{name}: licence: {licence or snapshot.licence}")
            files = self._fetch(reference, snapshot, downloads, name)
            with self._library.staging(name) as staged:
                for target, file in snapshot.files.items():
                    with storage_errors(staged):
                        (staged / target).parent.mkdir(parents=True, exist_ok=True)
                        os.replace(downloads / file.path, staged / target)
                origin = {"repository": reference.repository, "commit": snapshot.commit}
                path = self._library.add(name, staged, Manifest(files, licence or snapshot.licence, origin))
        except BaseException:
            with suppress(OSError):
                downloads.rmdir()  # unless it holds what can be resumed
            raise
        with storage_errors(downloads):
            shutil.rmtree(downloads)
        return path

    def _fetch(self, reference: HubReference, snapshot: _Snapshot, downloads: Path, name: str) -> tuple[ModelFile, ...]:
        """All files, below ``downloads`` at their paths in the repository, checked."""
        total_bytes = sum(file.size_bytes for file in snapshot.files.values())
        before_bytes, fetched = 0, []
        for i, (target, file) in enumerate(snapshot.files.items(), start=1):
            label = f"fetching {name} ({i} of {len(snapshot.files)})"
            bar = Bar(self._progress, label, before_bytes=before_bytes, total_bytes=total_bytes)
            with hub_errors(reference, downloads):
                hf_hub_download(
                    reference.repository,
                    file.path,
                    revision=snapshot.commit,
                    local_dir=downloads,
                    library_name="lepton-ai",
                    library_version=__version__,
                    tqdm_class=_bar_class(bar.on_bytes),
                )
            fetched.append(ModelFile(target, file.size_bytes, _checked(downloads / file.path, file)))
            before_bytes += file.size_bytes
        return tuple(fetched)


def _ask(reference: HubReference, downloads: Path) -> _Snapshot:
    """The commit of the revision, and the files of the model at that commit."""
    with hub_errors(reference, downloads):
        api = HfApi(library_name="lepton-ai", library_version=__version__)
        timeout_s = constants.HF_HUB_ETAG_TIMEOUT
        info = api.model_info(reference.repository, revision=reference.revision, timeout=timeout_s, files_metadata=True)
        commit, tags = info.sha, info.tags or []
        found = [_remote_file(sibling) for sibling in info.siblings or []]
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise DownloadFailed(f"{reference.name}: expected the hub to say a commit, got {commit!r:.80}")
    remote = {file.path: file for file in found}
    chosen = choose_files(remote, _member(reference, remote), reference.name)
    licence = next((str(tag).removeprefix("license:") for tag in tags if str(tag).startswith("license:")), None)
    shown = f"{licence} (as {reference.repository} says)" if licence else f"see the repository {reference.repository}"
    return _Snapshot(commit, shown, {name: remote[path] for name, path in chosen.items()})


def _remote_file(sibling: RepoSibling) -> _RemoteFile:
    """Raises ValueError for what no hub says of a file."""
    size_bytes, digest = sibling.size, sibling.lfs.sha256 if sibling.lfs else None
    if not isinstance(size_bytes, int) or size_bytes < 0:
        raise ValueError("a file without a size")
    return _RemoteFile(str(sibling.rfilename), size_bytes, digest)


def _member(reference: HubReference, paths: Mapping[str, object]) -> str | None:
    """The repository itself if it is a folder of a model; otherwise its only GGUF file, or what was named."""
    if reference.member is not None:
        return reference.member
    has_gguf, has_weights = any(path.endswith(".gguf") for path in paths), any(map(is_weights, paths))
    return "" if CONFIG in paths and (has_weights or not has_gguf) else None


def _checked(path: Path, file: _RemoteFile) -> str:
    """The sha256 of a fetched file, safely on the disk. What is not what the hub announced is removed."""
    with storage_errors(path):
        with path.open("rb") as fetched:
            os.fsync(fetched.fileno())
        size_bytes, actual = path.stat().st_size, sha256_of(path)
        if size_bytes == file.size_bytes and file.sha256 in (None, actual):
            return actual
        path.unlink()
    raise DigestMismatch(
        f"{file.path}: expected {file.size_bytes} bytes with sha256 {file.sha256 or 'unknown'}, "
        f"got {size_bytes} with {actual}"
    )


def _bar_class(on_bytes: Callable[[int], None]) -> type[Any]:
    """What ``huggingface_hub`` takes for a progress bar: it draws nothing, and tells ``on_bytes`` how much is there."""

    class SilentBar(tqdm):
        def __init__(self, *args: object, initial: int = 0, **options: object) -> None:
            super().__init__(disable=True, initial=initial)  # type: ignore[no-untyped-call]
            on_bytes(initial)

        def update(self, n: int = 1) -> None:
            """So many more bytes are there."""
            self.n += n
            on_bytes(self.n)

        def update_transfer(self, n: int = 1) -> None:
            """Bytes on the wire are not bytes of the file."""

    return SilentBar
