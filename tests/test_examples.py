"""The notebooks of ``examples/`` and the Python of the users' pages run from top to bottom."""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType

import pytest

from lepton_ai.config import Environment
from lepton_ai.errors import DownloadFailed
from lepton_ai.weights.sources.progress import NoProgress
from lepton_ai.weights.sources.resolve import resolve

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = tuple(sorted((ROOT / "examples").glob("*.ipynb")))
PAGES = tuple(ROOT / "docs" / name for name in ("index.md", "first-run.md", "python.md", "engine.md", "tokenizers.md"))
PYTHON = re.compile(r"^ *```python\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


def name_of(path: Path) -> str:
    return path.name


@pytest.fixture(scope="module", autouse=True)
def model() -> None:
    """The model that all of them run, pulled if it is not here."""
    try:
        resolve("smollm2", Environment.read(), NoProgress())
    except DownloadFailed as error:
        pytest.skip(f"smollm2 cannot be fetched: {error.message}")


def sources(notebook: Path) -> list[str]:
    """The code cells of a notebook."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run(cells: Sequence[str], name: str) -> list[str]:
    """Run cells in one namespace, as Jupyter does. Returns what it would display: last expressions but for None."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    displayed = []
    for number, cell in enumerate(cells):
        for code in compiled(cell, f"{name}, cell {number}"):
            value = eval(code, namespace)
            if value is not None:
                displayed.append(repr(value))
    return displayed


def compiled(cell: str, name: str) -> Iterator[CodeType]:
    """The statements of a cell, which give None, and a last expression, which gives what is displayed.

    A magic or a shell command is no Python and raises SyntaxError.
    """
    body = ast.parse(cell, name).body
    statements, last = (body[:-1], body[-1]) if body and isinstance(body[-1], ast.Expr) else (body, None)
    yield compile(ast.Module(statements, []), name, "exec")
    if isinstance(last, ast.Expr):
        yield compile(ast.Expression(last.value), name, "eval")


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_a_notebook_runs(notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(sources(notebook), notebook.name) != []
    assert capsys.readouterr().out


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_a_notebook_is_kept_without_outputs(notebook: Path) -> None:
    """They differ between instruction sets in the last bits, and so in a word; and no change of one is a change."""
    text = notebook.read_text(encoding="utf-8")
    content = json.loads(text)
    assert text == json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert set(content["metadata"]) == {"kernelspec", "language_info"}
    cells = content["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert {cell["cell_type"] for cell in cells} == {"code", "markdown"}
    for cell in cells:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert (cell["execution_count"], cell["outputs"]) == (None, [])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_python_of_a_page_runs(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = PYTHON.findall(page.read_text(encoding="utf-8"))
    assert blocks
    for number, block in enumerate(blocks):
        run([textwrap.dedent(block)], f"{page.name}, block {number}")


def test_the_runner_displays_what_jupyter_would() -> None:
    assert run(["x = 1", "x + 1", "None"], "cells") == ["2"]
    assert run(["[1, 2]\n'last'"], "cells") == ["'last'"]
    with pytest.raises(SyntaxError):
        run(["%matplotlib inline"], "cells")
