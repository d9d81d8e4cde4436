"""What a model on this machine consists of: its files with their sizes and digests, its licence and its origin."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

GGUF_NAME = "model.gguf"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a model. ``name`` is its path below the model's folder, with slashes."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a model, its licence, and where they came from, as JSON values."""

    files: tuple[ModelFile, ...]
    licence: str
    origin: Mapping[str, object] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def sha256(self) -> str:
        """The digest that an open checkpoint of these files has: see ``weights_digest``."""
        return weights_digest(self.files)

    @property
    def entry(self) -> str:
        """What is opened, below the model's folder: the first GGUF file, or "" for the folder itself."""
        return min((file.name for file in self.files if file.name.endswith(".gguf")), default="")

    def to_json(self) -> str:
        """The manifest as a file."""
        return json.dumps({"version": _VERSION, **asdict(self)}, indent=2) + "\n"


def weights_digest(files: tuple[ModelFile, ...]) -> str:
    """The sha256 of the file that holds the weights; of several, that of their hex digests in the order of names."""
    weights = sorted((file.name, file.sha256) for file in files if file.name.endswith((".gguf", ".safetensors")))
    if len(weights) == 1:
        return weights[0][1]
    return hashlib.sha256("".join(digest for _, digest in weights).encode("ascii")).hexdigest()


def parse_manifest(data: bytes) -> Manifest:
    """The manifest that ``to_json`` wrote. Raises ValueError, KeyError or TypeError for anything else."""
    value = json.loads(data)
    if value["version"] != _VERSION:
        raise ValueError("another version")
    # The first manifests were of one GGUF file, and had its size and digest where later ones have a list.
    listed = value.get("files") or [{"name": GGUF_NAME, **{key: value[key] for key in ("size_bytes", "sha256")}}]
    files = tuple(ModelFile(str(f["name"]), int(f["size_bytes"]), str(f["sha256"])) for f in listed)
    return Manifest(files, str(value["licence"]), dict(value.get("origin", {})))
