"""The models of this machine: ``LEPTON_HOME/models/<name>/`` with ``model.gguf`` and ``manifest.json``.

A model's folder appears in one rename, so it is either absent or whole. Transfers under way lie in
``LEPTON_HOME/downloads/<name>/``, locks in ``LEPTON_HOME/locks/``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from lepton_ai.errors import ModelNotFound
from lepton_ai.weights.sources.registry import KnownModel
from lepton_ai.weights.sources.storage import exclusive, storage_errors

_MODEL, _MANIFEST = "model.gguf", "manifest.json"
_MANIFEST_VERSION = 1


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model file on this machine."""

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
        return self._home / "downloads" / name

    def lock(self, name: str, *, on_wait: Callable[[], None]) -> AbstractContextManager[None]:
        """Held by whoever adds or removes this model."""
        return exclusive(self._home / "locks" / f"{name}.lock", on_wait=on_wait)

    def find(self, name: str) -> InstalledModel | None:
        """The model of this exact name, or None if it is absent or its file is not the one of its manifest."""
        folder = self._home / "models" / name
        path = folder / _MODEL
        try:
            manifest = json.loads((folder / _MANIFEST).read_bytes())
            model = InstalledModel(
                name, path, int(manifest["size_bytes"]), str(manifest["sha256"]), str(manifest["licence"])
            )
            is_whole = manifest["version"] == _MANIFEST_VERSION and path.stat().st_size == model.size_bytes
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return model if is_whole else None

    def installed(self) -> list[InstalledModel]:
        """All of them, by name."""
        return [model for name in _names(self._home / "models") if (model := self.find(name)) is not None]

    def add(self, model: KnownModel, file: Path) -> Path:
        """Move a finished, checked file into its place. The caller holds the lock. Returns its path there."""
        staged, target = self.downloads(model.name) / "complete", self._home / "models" / model.name
        manifest = {
            "version": _MANIFEST_VERSION,
            "name": model.name,
            "size_bytes": model.size_bytes,
            "sha256": model.sha256,
            "licence": model.licence,
            "parts": [asdict(part) for part in model.parts],
        }
        with storage_errors(target):
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir(parents=True)
            (staged / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
            os.replace(file, staged / _MODEL)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():  # find() did not take it for whole
                shutil.rmtree(target)
            os.rename(staged, target)
        return target / _MODEL

    def has_files(self, name: str) -> bool:
        """Whether there is anything of this name, whole or not."""
        # Compared with what is there, not joined to a path: a name from outside may hold "..".
        return any(name in _names(self._home / folder) for folder in ("models", "downloads"))

    def remove(self, name: str) -> int:
        """Delete a model and what is left of its transfers. Returns the bytes freed. Raises ModelNotFound."""
        if not self.has_files(name):
            raise ModelNotFound(f"model: {name!r} is not on this machine", param="model")
        folder, downloads = self._home / "models" / name, self.downloads(name)
        with self.lock(name, on_wait=lambda: None), storage_errors(folder):
            num_bytes = sum(f.stat().st_size for d in (folder, downloads) for f in d.rglob("*") if f.is_file())
            for path in (folder, downloads):
                if path.exists():
                    shutil.rmtree(path)
        return num_bytes


def _names(folder: Path) -> list[str]:
    with storage_errors(folder):
        return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
