"""Run tests on arm64 without such a machine: the core is cross-compiled, and Python runs it in QEMU's user mode.

    .venv/bin/python scripts/test_arm.py [arguments of pytest]

Debian's Python for arm64 is downloaded by apt and unpacked, not installed: no rights are needed. What is made here lies
in build/arm and is used again while what it was made of is the same. QEMU is an emulator: its speed says nothing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

import tomllib

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "arm"
STAMP = ".made-of"

TOOLS = {
    "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu",
    "qemu-aarch64-static": "qemu-user-static",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
}
"""What must be installed: command to Debian package."""
DEBIAN_PACKAGES = ("python3", "libpython3-dev", "libstdc++6")
DEVELOPMENT_TOOLS = ("clang-format", "lepton-ai", "mypy", "ruff", "types-jsonschema")
"""Those of the extra ``dev`` that tests do without; our own name stands for other extras."""
PLATFORMS = ("manylinux_2_31_aarch64", "manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")

PROCESSORS: Mapping[str, tuple[str, ...]] = {
    "cortex-a72": ("generic",),
    "neoverse-n1": ("neondot", "generic"),
    "max": ("i8mm", "neondot", "generic"),
}
"""Processors that QEMU knows: Armv8.0, Armv8.2, and all that it can; the instruction sets to be found on each."""
TESTS = (
    "tests/kernels",
    "tests/backends/cpu",
    "tests/graph",
    "tests/cli/test_machine.py",
    "tests/parity/test_instruction_sets.py",
)


def main() -> int:
    """Make what is missing, look for instruction sets, run the tests. Returns the exit status."""
    if missing := missing_packages(TOOLS):
        sys.exit(f"test_arm: these Debian packages are needed: apt-get install {' '.join(missing)}")
    BUILD.mkdir(parents=True, exist_ok=True)
    root = BUILD / "root"
    make_root(root)
    version = python_version(root)
    install_requirements(BUILD / "packages", version)
    copy_package(build_core(root, version), BUILD / "lepton")
    python = BUILD / "python"
    write_interpreter(python, root, version)
    check_detection(python)
    pytest = [python, "-m", "pytest", "-o", f"cache_dir={BUILD / 'pytest_cache'}", *(sys.argv[1:] or TESTS)]
    return subprocess.run(pytest, cwd=ROOT).returncode


def missing_packages(tools: Mapping[str, str]) -> list[str]:
    """The Debian packages of those commands that are not there."""
    return [package for command, package in tools.items() if shutil.which(command) is None]


def is_made(folder: Path, of: Sequence[str]) -> bool:
    """Whether ``folder`` was completed of these inputs."""
    stamp = folder / STAMP
    return stamp.exists() and stamp.read_text(encoding="utf-8").splitlines() == list(of)


@contextmanager
def making(folder: Path, of: Sequence[str]) -> Iterator[None]:
    """``folder`` is empty at the start; at the end it says of what it was made."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield
    (folder / STAMP).write_text("\n".join(of) + "\n", encoding="utf-8")


def make_root(root: Path) -> None:
    """Debian's Python for arm64 with its libraries and headers, unpacked into ``root``."""
    if is_made(root, DEBIAN_PACKAGES):
        return
    print("fetching Python for arm64", flush=True)
    with making(root, DEBIAN_PACKAGES), tempfile.TemporaryDirectory(prefix="lepton-apt-") as folder:
        for archive in download_archives(Path(folder)):
            run(["dpkg-deb", "--extract", archive, root])


def download_archives(folder: Path) -> list[Path]:
    """DEBIAN_PACKAGES and all that they need where nothing is installed, by an apt that lives in ``folder``."""
    for name in ("lists/partial", "cache/archives/partial", "state"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",  # another user could not write into the folder
        "Dir::State": folder / "state",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
    }
    get = ["apt-get", "-qq", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]
    run([*get, "update"])
    run([*get, "install", "--yes", "--download-only", "--no-install-recommends", *DEBIAN_PACKAGES])
    return sorted((folder / "cache" / "archives").glob("*.deb"))


def python_version(root: Path) -> str:
    """The version of the Python in ``root``, such as 3.11."""
    (binary,) = [path for path in (root / "usr" / "bin").glob("python3.*") if re.fullmatch(r"python3\.\d+", path.name)]
    return binary.name.removeprefix("python")


def requirements(pyproject: Path) -> list[str]:
    """What the package and its tests import, as pyproject.toml says it."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    development: list[str] = project["optional-dependencies"]["dev"]
    tests = [text for text in development if re.split(r"[<>=\[]", text)[0] not in DEVELOPMENT_TOOLS]
    return [*project["dependencies"], *tests]


def install_requirements(folder: Path, version: str) -> None:
    """Wheels for arm64, unpacked into ``folder``."""
    wanted = requirements(ROOT / "pyproject.toml")
    made_of = [version, *wanted]
    if is_made(folder, made_of):
        return
    print("installing packages for arm64", flush=True)
    interpreter = ["--python-version", version, *(word for name in PLATFORMS for word in ("--platform", name))]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq", "install"]
    with making(folder, made_of):
        run([*pip, "--target", folder, "--only-binary=:all:", *interpreter, *wanted])


def build_core(root: Path, version: str) -> Path:
    """Compile what changed of the native core. Returns the module."""
    folder, include = BUILD / "core", root / "usr" / "include"
    settings = {
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "aarch64",
        "CMAKE_CXX_COMPILER": "aarch64-linux-gnu-g++",
        "CMAKE_CXX_FLAGS": f"-idirafter {include}",  # Debian's pyconfig.h includes the one of its architecture
        "CMAKE_BUILD_TYPE": "Release",
        "Python_EXECUTABLE": sys.executable,
        "Python_INCLUDE_DIR": include / f"python{version}",
        "SKBUILD_SOABI": f"cpython-{version.replace('.', '')}-aarch64-linux-gnu",
    }
    cmake = Path(sys.executable).with_name("cmake")
    print("building the native core for arm64", flush=True)
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={cmake.with_name('ninja')}"]
    defined = [f"-D{name}={value}" for name, value in settings.items()]
    run([cmake, "-S", ROOT, "-B", folder, "--log-level=WARNING", *generator, *defined], capture=True)
    run([cmake, "--build", folder, "--", "--quiet"])
    return folder / f"_native.{settings['SKBUILD_SOABI']}.so"


def copy_package(core: Path, folder: Path) -> None:
    """The package with its core: the sources, beside which another machine's core may lie, stay as they are."""
    shutil.rmtree(folder, ignore_errors=True)
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "src" / "lepton_ai", folder / "lepton_ai", ignore=ignored)
    shutil.copy2(core, folder / "lepton_ai" / "backends" / "cpu")


def write_interpreter(path: Path, root: Path, version: str) -> None:
    """A command that is Python for arm64, for its own children too: they start what ``sys.executable`` says."""
    made, python = path.parent, root / "usr" / "bin" / f"python{version}"
    path.write_text(
        f"""#!/bin/sh
export PYTHONHOME={quote(f"{root}/usr")} PYTHONPYCACHEPREFIX={quote(f"{made}/pycache")}
export PYTHONPATH={quote(f"{made}/lepton:{made}/packages")}"${{PYTHONPATH:+:$PYTHONPATH}}"
exec qemu-aarch64-static -cpu "${{QEMU_CPU:-max}}" -L {quote(str(root))} -0 "$0" {quote(str(python))} "$@"
""",
        encoding="utf-8",
    )
    path.chmod(0o755)


def check_detection(python: Path) -> None:
    """Each processor of the table must be seen for what it is; exits if one is not."""
    show = "from lepton_ai.backends.cpu import _native; print(*_native.available_isas())"
    for processor, expected in PROCESSORS.items():
        found = run(["env", f"QEMU_CPU={processor}", python, "-c", show], capture=True).split()
        if found != list(expected):
            sys.exit(
                f"test_arm: {processor}: expected the instruction sets {', '.join(expected)}, found {', '.join(found)}"
            )
        print(f"{processor}: {', '.join(found)}", flush=True)


def run(command: Sequence[str | Path], *, capture: bool = False) -> str:
    """Run a command. Returns what it printed, if that is captured; a failure ends the script."""
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE if capture else None)
    return done.stdout or ""


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"test_arm: {' '.join(map(str, error.cmd[:4]))} ... ended with status {error.returncode}")
