"""The models of this machine: ``LEPTON_HOME/models/<name>/`` with the model's files and ``manifest.json``.

A model's folder appears in one rename, so it is either absent or whole. Transfers under way lie in
``LEPTON_HOME/downloads/<name>/``, locks in ``LEPTON_HOME/locks/``. In ``<name>``, what the name of a folder may not
hold is quoted as in a URL.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from lepton_ai.errors import ModelNotFound
from lepton_ai.weights.sources.manifest import Manifest, parse_manifest
from lepton_ai.weights.sources.progress import Progress
from lepton_ai.weights.sources.storage import exclusive, storage_errors

_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model on this machine. ``path`` is its GGUF file or its folder, ``sha256`` the digest of its weights."""

    name: str
    path: Path
    size_bytes: int
    sha256: str
    licence: str


class Library:
    """The models under one LEPTON_HOME."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def downloads(self, name: str) -> Path:
        """The folder of this model's transfers. It need not exist."""
        return self._home / "downloads" / _folder(name)

    def lock(self, name: str, *, on_wait: Callable[[], None]) -> AbstractContextManager[None]:
        """Held by whoever adds or removes this model."""
        return exclusive(self._home / "locks" / f"{_folder(name)}.lock", on_wait=on_wait)

    def find(self, name: str) -> InstalledModel | None:
        """The model of this exact name, or None if it is absent or its files are not those of its manifest."""
        folder = self._home / "models" / _folder(name)
        try:
            manifest = parse_manifest((folder / _MANIFEST).read_bytes())
            is_whole = all((folder / file.name).stat().st_size == file.size_bytes for file in manifest.files)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        if not is_whole:
            return None
        return InstalledModel(name, folder / manifest.entry, manifest.size_bytes, manifest.sha256, manifest.licence)

    def installed(self) -> list[InstalledModel]:
        """All of them, by name."""
        return [model for name in _names(self._home / "models") if (model := self.find(name)) is not None]

    def get_or_add(self, name: str, progress: Progress, add: Callable[[], Path]) -> Path:
        """The model's file or folder, made by ``add`` if it is not here. Of two at once the second waits."""
        try:
            with self.lock(name, on_wait=lambda: progress.describe("waiting for another pull")):
                if (found := self.find(name)) is not None:
                    return found.path
                return add()
        finally:
            progress.finish()

    @contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        """An empty folder for a model's files, which ``add`` moves away; if it is still there at the end, it goes."""
        folder = self.downloads(name) / "complete"
        with storage_errors(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def add(self, name: str, staged: Path, manifest: Manifest) -> Path:
        """Move a folder of finished, checked files into its place. The caller holds the lock. Returns its path there.

        That is the path of the GGUF file if there is one, else that of the folder.
        """
        target = self._home / "models" / _folder(name)
        with storage_errors(target):
            (staged / _MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():  # find() did not take it for whole
                shutil.rmtree(target)
            os.rename(staged, target)
        return target / manifest.entry

    def has_files(self, name: str) -> bool:
        """Whether there is anything of this name, whole or not."""
        # Compared with what is there, not joined to a path: a name from outside may hold "..".
        return any(name in _names(self._home / folder) for folder in ("models", "downloads"))

    def remove(self, name: str) -> int:
        """Delete a model and what is left of its transfers. Returns the bytes freed. Raises ModelNotFound."""
        if not self.has_files(name):
            raise ModelNotFound(f"model: {name!r} is not on this machine", param="model")
        folder, downloads = self._home / "models" / _folder(name), self.downloads(name)
        with self.lock(name, on_wait=lambda: None), storage_errors(folder):
            num_bytes = sum(f.stat().st_size for d in (folder, downloads) for f in d.rglob("*") if f.is_file())
            for path in (folder, downloads):
                if path.exists():
                    shutil.rmtree(path)
        return num_bytes


def _folder(name: str) -> str:
    """A model's name as that of a folder: a reference has slashes and colons, which are quoted as in a URL."""
    return quote(name, safe="")


def _names(folder: Path) -> list[str]:
    with storage_errors(folder):
        return sorted(unquote(entry.name) for entry in folder.iterdir()) if folder.is_dir() else []
