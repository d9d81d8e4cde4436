"""What holds for every file: imports go one way, nothing grows without bound, what is public is documented."""

from __future__ import annotations

import ast
import importlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "lepton_ai"
MODULES = tuple(sorted(PACKAGE.rglob("*.py")))
PYTHON = tuple(
    path for folder in ("src", "tests", "bench", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))
)
NATIVE = tuple(path for path in sorted((ROOT / "native").rglob("*")) if path.suffix in (".cpp", ".h"))

MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60

# What each part of the package may import of the others. "" is the package itself: names made lazily.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "": frozenset({"version", "engine", "errors", "text"}),
    "version": frozenset(),
    "config": frozenset({"errors"}),
    "huge_pages": frozenset(),
    "phases": frozenset(),
    "graph": frozenset({"errors", "config"}),
    "weights": frozenset({"version", "errors", "config", "graph"}),
    "text": frozenset({"errors", "config", "weights"}),
    "models": frozenset({"errors", "config", "graph", "weights"}),
    "backends": frozenset({"errors", "config", "huge_pages", "phases", "graph", "weights"}),
    "engine": frozenset({"errors", "config", "huge_pages", "phases", "graph", "weights", "text", "models", "backends"}),
    "serve": frozenset({"version", "errors", "config", "weights", "text", "engine"}),
    "loadgen": frozenset({"errors"}),
    "cli": frozenset(
        {"version", "errors", "config", "huge_pages", "phases", "graph", "weights", "text", "models"}
        | {"backends", "engine", "serve", "loadgen"}
    ),
    "__main__": frozenset({"cli"}),
}

MUTATORS = frozenset(
    ("add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "setdefault", "update")
)
MUTABLE_CALLS = frozenset(("bytearray", "defaultdict", "deque", "dict", "list", "OrderedDict", "set"))

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def part_of(module: str) -> str:
    """``lepton_ai.graph.ops`` -> ``graph``."""
    return (*module.split("."), "")[1]


def imported_modules(path: Path) -> set[str]:
    """The modules of ours that a file imports anywhere in it, in functions and for type checkers too."""
    known = {module_name(module) for module in MODULES} | {"lepton_ai.backends.cpu._native"}
    names: set[str] = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{label(path)}: a relative import"
            names.update(
                submodule if (submodule := f"{node.module}.{alias.name}") in known else node.module
                for alias in node.names
            )
    return {name for name in names if name in known}


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(parse(path)) if isinstance(node, Function))


def undocumented(node: ast.Module | ast.ClassDef, name: str) -> Iterator[str]:
    """Public functions, classes and methods without a docstring. Classes with an underscore are not looked into."""
    for child in node.body:
        if isinstance(child, Function | ast.ClassDef) and not child.name.startswith("_"):
            if ast.get_docstring(child) is None:
                yield f"{name}.{child.name}"
            if isinstance(child, ast.ClassDef):
                yield from undocumented(child, f"{name}.{child.name}")


def positional_booleans(function: Function) -> Iterator[str]:
    """Parameters of type ``bool`` that a call may give without their name."""
    for parameter in (*function.args.posonlyargs, *function.args.args):
        if isinstance(parameter.annotation, ast.Name) and parameter.annotation.id == "bool":
            yield f"{function.name}({parameter.arg})"


def mutable_names(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement of a module binds to a list, a dict or a set."""
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
        return
    value = statement.value
    is_display = isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)
    is_call = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in MUTABLE_CALLS
    if is_display or is_call:
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def changed_name(node: ast.AST) -> str | None:
    """The name of what ``node`` changes in place: ``x.append(...)``, ``x[...] = ...``, ``del x[...]``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
        target = node.func.value
    elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        target = node.value
    else:
        return None
    return target.id if isinstance(target, ast.Name) else None


def test_every_part_has_its_rule() -> None:
    parts = {part_of(module_name(path)) for path in MODULES}
    assert parts == set(MAY_IMPORT)


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_go_one_way(part: str) -> None:
    wrong = [
        f"{label(path)} imports {name}"
        for path in MODULES
        if part_of(module_name(path)) == part
        for name in sorted(imported_modules(path))
        if part_of(name) not in MAY_IMPORT[part] | {part}
    ]
    assert wrong == []


def test_no_cycle() -> None:
    # The package itself names what it makes lazily for type checkers only; with these names it would be in every cycle.
    graph = {module_name(path): imported_modules(path) for path in MODULES if path != PACKAGE / "__init__.py"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_test_files_have_names_of_their_own() -> None:
    """Pytest imports those of folders that are no packages by their names alone."""
    tests = (path for path in PYTHON if path.name.startswith("test_") and path.is_relative_to(ROOT / "tests"))
    names = Counter(path.name for path in tests if not (path.parent / "__init__.py").exists())
    assert {name: count for name, count in names.items() if count > 1} == {}


def test_no_file_is_long() -> None:
    lengths = {label(path): len(path.read_text(encoding="utf-8").splitlines()) for path in (*PYTHON, *NATIVE)}
    assert {name: n for name, n in lengths.items() if n > MAX_FILE_LINES} == {}, "find the seam"


def test_no_function_is_long() -> None:
    lengths = {
        f"{label(path)}: {function.name}": (function.end_lineno or function.lineno) - function.lineno + 1
        for path in PYTHON
        for function in functions(path)
    }
    assert {name: n for name, n in lengths.items() if n > MAX_FUNCTION_LINES} == {}, "find the seam"


def test_no_boolean_is_positional() -> None:
    """Private functions, and those named below, have the signature that a library calls: Jinja's filters, callbacks."""
    public = [f for path in MODULES for f in functions(path) if not f.name.startswith("_") and f.name != "to_json"]
    assert [name for function in public for name in positional_booleans(function)] == []


def test_what_is_public_is_documented() -> None:
    wrong = [name for path in MODULES for name in undocumented(parse(path), module_name(path))]
    wrong += [label(path) for path in MODULES if parse(path).body and not ast.get_docstring(parse(path))]
    assert wrong == []


def test_no_mutable_state_in_a_module() -> None:
    """A module's tables are named as constants, and nothing rebinds or fills them."""
    wrong = []
    for path in MODULES:
        tables = {name for statement in parse(path).body for name in mutable_names(statement)}
        wrong += [f"{label(path)}: {name}" for name in tables if name not in ("__all__", name.upper())]
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Global):
                wrong.append(f"{label(path)}: global {', '.join(node.names)}")
            elif (name := changed_name(node)) in tables:
                wrong.append(f"{label(path)}: {name} is changed")
    assert wrong == []


def test_names_in_all_are_there() -> None:
    for path in MODULES:
        if path.name != "__main__.py":
            module = importlib.import_module(module_name(path))
            assert [name for name in getattr(module, "__all__", ()) if not hasattr(module, name)] == [], label(path)


def test_a_kernel_names_no_instruction_set() -> None:
    """Intrinsics stand in the headers of their instruction set, so that each kernel is written once."""
    kernels = [
        path for path in NATIVE if not path.stem.endswith(("_avx2", "_avx512", "_amx", "_neon", "_i8mm", "_generic"))
    ]
    marks = ("_mm_", "_mm256_", "_mm512_", "vld1q_", "immintrin.h", "arm_neon.h")
    assert [label(p) for p in kernels if any(mark in p.read_text(encoding="utf-8") for mark in marks)] == []


def test_nothing_is_built_for_this_machine_alone() -> None:
    for name in ("CMakeLists.txt", "pyproject.toml", "Makefile"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "-march=native" not in text and "-ffast-math" not in text, name
