"""The environments that other engines run in: virtual environments of their own, made when they are first needed.

python -m bench.peers    makes that of the parity tests
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.worker import ROOT

REQUIREMENTS = ROOT / "bench" / "peers-requirements.txt"
ENCODER_REQUIREMENTS = ROOT / "bench" / "encoder-peers-requirements.txt"
ENCODER_FOLDER = ROOT / ".venv-encoders"
PARITY_REQUIREMENTS = ROOT / "bench" / "parity-requirements.txt"
PARITY_FOLDER = ROOT / ".venv-parity"

# Where a processor has AMX, llama.cpp's kernels for it end with a segmentation fault (seen as GCC 12 compiles them).
_WITHOUT_AMX = " ".join(f"-DCMAKE_{language}_FLAGS=-mno-amx-int8" for language in ("C", "CXX"))
_NATIVE = f"-DGGML_NATIVE=ON {_WITHOUT_AMX if platform.machine() == 'x86_64' else ''}".rstrip()
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
    "native": PeerBuild(ROOT / ".venv-peers", _NATIVE, None),
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


def ensure_parity_peers() -> Path:
    """The interpreter of the environment with PyTorch, transformers and llama.cpp."""
    what = "installing PyTorch, transformers and llama.cpp"
    return _ensure(PARITY_FOLDER, PARITY_REQUIREMENTS, what, ("--no-cache-dir",), _NATIVE)


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


if __name__ == "__main__":
    ensure_parity_peers()
