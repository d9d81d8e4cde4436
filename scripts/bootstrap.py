"""Make the virtual environment that this repository is built and tested in.

    python3 scripts/bootstrap.py .venv

It gets pip, and what pyproject.toml asks for to build the package. Debian's Python lacks ensurepip unless python3-venv
is installed: then pip is fetched by Lepton's own downloader, from the index that pip is configured for.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit("bootstrap: expected Python 3.11 or newer to develop Lepton; set PYTHON=... for make")

import tomllib

ROOT = Path(__file__).resolve().parent.parent
PIP_VERSION = "25.0.1"
# With build isolation pip would fetch these for each build, and nothing could be compiled incrementally.
NATIVE_TOOLS = ("cmake>=3.18", "ninja>=1.10")


def main() -> int:
    """Parse the arguments and run. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Make a virtual environment that can build this package.")
    parser.add_argument("folder", type=Path, help="where to make it; what is there already is kept if it works")
    folder: Path = parser.parse_args().folder
    python = make_environment(folder)
    requirements = [*build_requirements(ROOT / "pyproject.toml"), *NATIVE_TOOLS]
    run_pip(python, "install", "-qq", *requirements)
    return 0


def make_environment(folder: Path) -> Path:
    """A virtual environment with pip at ``folder``. Returns its interpreter."""
    python = folder / "bin" / "python"
    if has_pip(python):
        return python
    can_bring_pip = importlib.util.find_spec("ensurepip") is not None
    print(f"making {folder}", flush=True)
    venv.EnvBuilder(with_pip=can_bring_pip, clear=True, symlinks=True).create(folder)
    if not can_bring_pip:
        print(f"fetching pip {PIP_VERSION}", flush=True)
        install_pip(python, fetch_pip)
    return python


def has_pip(python: Path) -> bool:
    """Whether there is an environment, and one that was not left half made."""
    return python.exists() and subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0


def install_pip(python: Path, fetch: Callable[[Path], Path]) -> None:
    """Install pip with itself: a wheel of pip runs where it lies. ``fetch`` puts one into a folder."""
    with tempfile.TemporaryDirectory(prefix="lepton-bootstrap-") as folder:
        wheel = fetch(Path(folder))
        subprocess.run([python, wheel / "pip", "install", "--quiet", "--no-index", wheel], check=True)


def fetch_pip(folder: Path) -> Path:
    """The wheel of pip, put into ``folder`` and checked against the index's digest."""
    sys.path.insert(0, str(ROOT / "src"))
    from lepton_ai.errors import LeptonError
    from lepton_ai.weights.sources.download import PartFile, fetch
    from lepton_ai.weights.sources.index import PackageIndex
    from lepton_ai.weights.sources.pip_config import read_index_config
    from lepton_ai.weights.sources.transport import Transport

    try:
        config = read_index_config()
        transport = Transport(config)
        link = PackageIndex(config, transport).find_wheel("pip", PIP_VERSION)
        wheel = folder / link.filename
        fetch(transport, link, PartFile(wheel), max_bytes=16 << 20, on_bytes=lambda num_bytes: None)
    except LeptonError as error:
        sys.exit(f"bootstrap: {error.message}")
    return wheel


def build_requirements(pyproject: Path) -> list[str]:
    """What the package asks of an environment that builds it."""
    requires: list[str] = tomllib.loads(pyproject.read_text(encoding="utf-8"))["build-system"]["requires"]
    return requires


def run_pip(python: Path, *arguments: str) -> None:
    """Run the environment's pip."""
    subprocess.run([python, "-m", "pip", "--disable-pip-version-check", *arguments], check=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"bootstrap: {' '.join(map(str, error.cmd[:4]))} ... ended with status {error.returncode}")
