"""The environments that other engines run in: virtual environments of their own, made when they are first needed.

python -m bench.peers.environments NAME    makes one
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.worker import ROOT

FOLDER = ROOT / ".venv-peers"
REQUIREMENTS = ROOT / "bench" / "peers" / "requirements"

# Where a processor has AMX, llama.cpp's kernels for it end with a segmentation fault (seen as GCC 12 compiles them).
_WITHOUT_AMX = " ".join(f"-DCMAKE_{language}_FLAGS=-mno-amx-int8" for language in ("C", "CXX"))
_NATIVE = f"-DGGML_NATIVE=ON {_WITHOUT_AMX if platform.machine() == 'x86_64' else ''}".rstrip()
_AVX2_LEVEL = "-DGGML_NATIVE=OFF -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an environment is made: the file of its requirements, without ``.txt``, what is compiled on this machine with
    which options of CMake, and what is installed without that which it asks for.
    """

    requirements: str
    compiled: tuple[str, ...] = ()
    cmake_args: str = ""
    bare: tuple[str, ...] = ()


# It asks for torchvision, which it needs for other models: that of the index works beside a PyTorch for GPUs only.
_OPTIMUM = ("optimum==2.3.0", "optimum-intel==2.2.0")
_LLAMA = ("llama-cpp-python",)
RECIPES: Mapping[str, Recipe] = {
    "llama_cpp": Recipe("llama_cpp", _LLAMA, _NATIVE),
    "llama_cpp-avx2": Recipe("llama_cpp", _LLAMA, _AVX2_LEVEL),
    "openvino": Recipe("openvino", bare=_OPTIMUM),
    "parity": Recipe("parity", _LLAMA, _NATIVE),
}
"""Of the environments that take more than a file of requirements with their name."""


def ensure(name: str) -> Path:
    """The interpreter of an environment; a changed requirement or option makes it anew, in minutes.

    Raises FileNotFoundError if there is no such environment, and CalledProcessError if it cannot be made.
    """
    recipe, text = RECIPES.get(name, Recipe(name)), describe(name)
    folder = FOLDER / name
    python, stamp = folder / "bin" / "python", folder / "lepton-peers.txt"
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == text:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    print(f"making {folder.relative_to(FOLDER.parent)}: some minutes", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, ROOT / "scripts" / "bootstrap.py", folder], check=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    environment = None
    if recipe.compiled:
        # A wheel that pip has cached was built with whatever options it was first asked for.
        pip += ["--no-cache-dir", "--no-binary", ",".join(recipe.compiled)]
        environment = {**os.environ, "CMAKE_ARGS": recipe.cmake_args}
    subprocess.run([*pip, "--requirement", str(_path(recipe))], env=environment, check=True)
    if recipe.bare:
        subprocess.run([*pip, "--no-deps", *recipe.bare], check=True)
    stamp.write_text(text, encoding="utf-8")
    return python


def describe(name: str) -> str:
    """All that an environment follows from. Raises FileNotFoundError if there is no such environment."""
    recipe = RECIPES.get(name, Recipe(name))
    return "\n".join([recipe.cmake_args, _with_included(_path(recipe)), *recipe.bare])


def _path(recipe: Recipe) -> Path:
    return REQUIREMENTS / f"{recipe.requirements}.txt"


def _with_included(requirements: Path) -> str:
    """The text of a file of requirements and of those that it takes in."""
    text = requirements.read_text(encoding="utf-8")
    included = [line.split(maxsplit=1)[1] for line in text.splitlines() if line.startswith("-r ")]
    return "".join([text, *(_with_included(requirements.parent / name) for name in included)])


def main() -> None:
    """Make what is named."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers.environments")
    parser.add_argument("name", help="one of bench/peers/requirements or of RECIPES")
    ensure(parser.parse_args().name)


if __name__ == "__main__":
    main()
