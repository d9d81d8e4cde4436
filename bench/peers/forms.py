"""What the other engines run of a model: each form is made once, and kept under what it was made of."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.model_files import CACHE
from bench.peers import environments
from bench.peers.hf_folder import write_hf_folder
from bench.worker import ROOT
from lepton_ai.config import Environment
from lepton_ai.weights.gguf import GGUFFile

_PEERS = ROOT / "bench" / "peers"
_LOG_BYTES = 2000


class ConversionFailed(Exception):
    """A tool of another engine ended with an error; the message has the last of what it wrote."""


def hf_folder(model: Path) -> Path:
    """The Hugging Face folder of a GGUF file. Raises what ``write_hf_folder`` raises."""
    with GGUFFile(model, Environment.read().home) as file:
        key = _key(file.digest, (_PEERS / "hf_folder.py").read_text(encoding="utf-8"))
    return _once(f"hf-{key}", lambda target: write_hf_folder(model, target))


def ctranslate2(model: Path) -> Path:
    """The CTranslate2 form of a GGUF file or of an encoder's folder. Raises ConversionFailed, and what ``hf_folder``
    and ``environments.ensure`` raise.
    """
    return _converted(model, environment="ctranslate2", module="ctranslate2")


def openvino(model: Path) -> Path:
    """The OpenVINO form of a GGUF file. Raises like ``ctranslate2``."""
    return _converted(model, environment="openvino", module="openvino")


def onnxruntime(model: Path) -> Path:
    """The ONNX form of a GGUF file. Raises like ``ctranslate2``."""
    return _converted(model, environment="onnxruntime", module="onnxruntime")


def _converted(model: Path, *, environment: str, module: str) -> Path:
    script = (_PEERS / "converters" / f"{module}.py").read_text(encoding="utf-8")
    source = model if model.is_dir() else hf_folder(model)
    content = _folder_digest(source) if model.is_dir() else source.name
    key = _key(content, script, environments.describe(environment))

    def convert(target: Path) -> None:
        run_tool(
            [str(environments.ensure(environment)), "-m", f"bench.peers.converters.{module}", str(source), str(target)]
        )

    return _once(f"{environment}-{key}", convert)


def run_tool(command: Sequence[str]) -> None:
    """Run it in silence and without a hub. Raises ConversionFailed."""
    variables = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        log = done.stdout[-_LOG_BYTES:].decode(errors="replace")
        raise ConversionFailed(f"{' '.join(command)}: ended with status {done.returncode}:\n{log}")


def _once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of that name in the cache; if it is not there, what ``make`` writes into an empty one."""
    target = CACHE / name
    if target.exists():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f"{name}-", suffix=".part", dir=CACHE))
    try:
        make(part)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _folder_digest(folder: Path) -> str:
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    return _key(*(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files))


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
