"""How large an installed Lepton is, with all that it depends on, in a fresh environment without pip.

python -m bench.size
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from bench.figures import Figure, add_output_options, report
from bench.worker import ROOT

MAX_BYTES = 150e6


def installed_bytes(environment: Path) -> int:
    """Bytes of all files of an environment but its links to the interpreter."""
    return sum(path.stat().st_size for path in environment.rglob("*") if path.is_file() and not path.is_symlink())


def install(environment: Path, wheels: Path) -> None:
    """Build a wheel of this repository and install it into a new environment."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "-qq", "--no-build-isolation", "--no-deps", "-w", wheels, ROOT], check=True)
    venv.EnvBuilder(with_pip=False, symlinks=True).create(environment)
    (wheel,) = wheels.glob("lepton_ai-*.whl")
    subprocess.run([*pip, "--python", environment / "bin" / "python", "install", "-qq", wheel], check=True)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.size", description=__doc__.splitlines()[0])
    add_output_options(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lepton-size-") as folder:
        environment = Path(folder) / "venv"
        install(environment, Path(folder) / "wheels")
        size = installed_bytes(environment)
    return report([Figure("installed, with dependencies", size / 1e6, MAX_BYTES / 1e6, "MB")], arguments)


if __name__ == "__main__":
    sys.exit(main())
