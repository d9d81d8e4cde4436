"""The documentation says what is so: links lead somewhere, files, commands and names exist, nothing is left out."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import lepton_ai
from lepton_ai.cli.verbs import VERBS
from lepton_ai.models.registry import FAMILIES, MODEL_TYPES
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.sources.registry import KNOWN_MODELS

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "lepton_ai"
PAGES = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"[\w./-]+/[\w.-]+\.(?:pyi?|cpp|h|md|toml|txt|ipynb)\b")
# Where a path in the documentation may start.
BASES = (ROOT, PACKAGE, ROOT / "native" / "kernels", ROOT / "docs")


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> Iterator[str]:
    return (textwrap.dedent(match[2]) for match in FENCE.finditer(text_of(path)) if match[1] == language)


def headings(path: Path) -> set[str]:
    """The anchors that a page offers, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(path)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", text_of(page))):
        if link.startswith(("https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_named_files_exist(page: Path) -> None:
    named = {word for code in CODE.findall(FENCE.sub("", text_of(page))) for word in FILE.findall(code)}
    named = {name for name in named if not name.startswith(("/", "~", "./", "models/<", "pip/", "1_Pooling/"))}
    assert [name for name in sorted(named) if not any((base / name).exists() for base in BASES)] == []


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_commands_exist(page: Path) -> None:
    text = text_of(page)
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^ *)make ([a-z-]+)", text, re.MULTILINE)) <= targets
    verbs = {verb.name for verb in VERBS}
    assert set(re.findall(r"(?:`|^ *)lepton ([a-z]+)", text, re.MULTILINE)) <= verbs


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_examples_are_python_with_public_names(page: Path) -> None:
    for source in blocks(page, "python"):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom):
                assert node.module == "lepton_ai"
                assert {alias.name for alias in node.names} <= set(lepton_ai.__all__)


@pytest.mark.parametrize("page", READMES, ids=label)
def test_a_readme_names_all_that_runs(page: Path) -> None:
    text = text_of(page)
    wanted = {*FAMILIES, *(model.name for model in KNOWN_MODELS), *(verb.name for verb in VERBS if verb.name != "rm")}
    assert [name for name in sorted(wanted) if name not in text] == []
    assert [t.value for t in WeightType if t.value not in text] == []


def test_the_page_of_models_names_all_that_runs() -> None:
    text = text_of(ROOT / "docs" / "models.md")
    wanted = {*FAMILIES, *MODEL_TYPES, *(t.value for t in WeightType)}
    assert [name for name in sorted(wanted) if f"`{name}`" not in text] == []


def test_the_architecture_has_a_line_for_each_module() -> None:
    listed = set(re.findall(r"`((?:native/)?[\w/]+\.[\w.]+)`", text_of(ROOT / "docs" / "architecture.md")))
    modules = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if text_of(path)}
    modules -= {"weights/sources/__init__.py"}
    native = {label(path) for path in (ROOT / "native").rglob("*") if path.suffix in (".cpp", ".h")}
    assert sorted((modules | native) - listed) == []
    gone = {name for name in listed if "/" in name and not any((base / name).exists() for base in BASES)}
    assert gone == set()


def test_every_notebook_has_its_line() -> None:
    page, nav = text_of(ROOT / "docs" / "notebooks.md"), text_of(ROOT / "mkdocs.yml")
    stems = [path.stem for path in (ROOT / "examples").glob("*.ipynb")]
    assert len(stems) >= 3
    assert [s for s in stems if f"| `examples/{s}.ipynb` |" not in page or f": notebooks/{s}.md\n" not in nav] == []


def test_every_environment_variable_is_documented() -> None:
    read = set(re.findall(r'"(LEPTON_\w+)"', text_of(PACKAGE / "config.py")))
    page = text_of(ROOT / "docs" / "configuration.md")
    assert read and [name for name in sorted(read) if f"| `{name}` |" not in page] == []
    elsewhere = [
        label(path)
        for path in PACKAGE.rglob("*.py")
        if path.name != "config.py" and re.search(r'environ(?:\.get)?[\[(]"LEPTON_', text_of(path))
    ]
    assert elsewhere == []
