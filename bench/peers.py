"""The environments that other engines run in: virtual environments of their own, made when they are first needed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.worker import ROOT

REQUIREMENTS = ROOT / "bench" / "peers-requirements.txt"
ENCODER_REQUIREMENTS = ROOT / "bench" / "encoder-peers-requirements.txt"
ENCODER_FOLDER = ROOT / ".venv-encoders"

_AVX2_LEVEL = "-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON"


@dataclass(frozen=True, slots=True)
class PeerBuild:
    """How llama.cpp is built, and the environment it lies in. ``lepton_isa`` is the set that Lepton then uses; None
    is the best that the machine has.
    """

    folder: Path
    cmake_args: str
    lepton_isa: str | None


BUILDS = {
    "native": PeerBuild(ROOT / ".venv-peers", "-DGGML_NATIVE=ON", None),
    "avx2": PeerBuild(ROOT / ".venv-peers-avx2", _AVX2_LEVEL, "avx2"),
}
"""By the level of instructions: what this machine has, or AVX2 on both sides."""


def ensure_peers(build: PeerBuild) -> Path:
    """The interpreter of llama.cpp's environment; a changed requirement or option makes it anew, in minutes."""
    # A wheel that pip has cached was built with whatever options it was first asked for.
    options = ("--no-cache-dir", "--no-binary", "llama-cpp-python")
    return _ensure(build.folder, REQUIREMENTS, "building llama.cpp", options, build.cmake_args)


def ensure_encoder_peers() -> Path:
    """The interpreter of the environment with ONNX Runtime and OpenVINO; a changed requirement makes it anew."""
    return _ensure(ENCODER_FOLDER, ENCODER_REQUIREMENTS, "installing ONNX Runtime and OpenVINO")


def _ensure(folder: Path, requirements: Path, what: str, options: Sequence[str] = (), cmake_args: str = "") -> Path:
    python = folder / "bin" / "python"
    stamp = folder / "lepton-peers.txt"
    wanted = f"{cmake_args}\n{requirements.read_text(encoding='utf-8')}"
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    print(f"{what} in {folder}: some minutes", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, ROOT / "scripts" / "bootstrap.py", folder], check=True)
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    environment = {**os.environ, "CMAKE_ARGS": cmake_args} if cmake_args else None
    subprocess.run([*pip, *options, "--requirement", requirements], env=environment, check=True)
    stamp.write_text(wanted, encoding="utf-8")
    return python
