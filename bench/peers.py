"""The environment that other engines run in: a virtual environment of its own, made when it is first needed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.worker import ROOT

REQUIREMENTS = ROOT / "bench" / "peers-requirements.txt"

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
    """The environment's interpreter; a changed requirement or option makes it anew. Compiling takes minutes."""
    python = build.folder / "bin" / "python"
    stamp = build.folder / "lepton-peers.txt"
    wanted = f"{build.cmake_args}\n{REQUIREMENTS.read_text(encoding='utf-8')}"
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    print(f"building llama.cpp in {build.folder}: some minutes", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, ROOT / "scripts" / "bootstrap.py", build.folder], check=True)
    # A wheel that pip has cached was built with whatever options it was first asked for.
    subprocess.run(
        [
            *(python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"),
            *("--no-cache-dir", "--no-binary", "llama-cpp-python", "--requirement", REQUIREMENTS),
        ],
        env={**os.environ, "CMAKE_ARGS": build.cmake_args},
        check=True,
    )
    stamp.write_text(wanted, encoding="utf-8")
    return python
