"""The documentation as a site: it builds without network, asks nothing of other servers, and has every page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mkdocstrings import Inventory
from scripts.site_pages import notebook_page, root_page
from tests.test_api_reference import CALLABLES

import lepton_ai
from lepton_ai import errors

ROOT = Path(__file__).resolve().parent.parent
NOBODY = "http://127.0.0.1:9"
"""A proxy that is not there: whatever asks the network fails."""

FETCHED = re.compile(
    r'<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]*)"|<link\b(?=[^>]*stylesheet)[^>]*href="([^"]*)"'
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), NOBODY)
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, **proxies, "NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    return folder


def test_every_page_is_there(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} | {"contributing", "changelog"}
    assert pages <= {path.stem for path in site.glob("*.html")}
    notebooks = {path.stem for path in (ROOT / "examples").glob("*.ipynb")}
    assert notebooks == {path.stem for path in (site / "notebooks").glob("*.html")}


def test_the_reference_has_every_public_name(site: Path) -> None:
    with (site / "objects.inv").open("rb") as file:
        documented = set(Inventory.parse_sphinx(file))
    assert [name for name in errors.__all__ if f"lepton_ai.errors.{name}" not in documented] == []
    names = set(lepton_ai.__all__) - set(errors.__all__)
    assert [name for name in sorted(names) if f"lepton_ai.{name}" not in documented] == []
    methods = [name for name in CALLABLES if "__init__" not in name and name.partition(".")[0] in names]
    hidden = ("__next__", "__anext__", "__aiter__")
    assert len(methods) > 20
    assert [m for m in methods if not m.endswith(hidden) and f"lepton_ai.{m}" not in documented] == []


def test_no_page_fetches_anything_from_another_server(site: Path) -> None:
    fetched = {
        (page.name, source)
        for page in site.rglob("*.html")
        for groups in FETCHED.findall(page.read_text(encoding="utf-8"))
        for source in groups
        if source
    }
    assert any(source.endswith(".css") for _, source in fetched) and any(
        source.endswith(".js") for _, source in fetched
    )
    assert [(page, source) for page, source in sorted(fetched) if "//" in source] == []


def test_no_list_is_taken_for_text(site: Path) -> None:
    """What GitHub takes for a list is text here if no blank line is before it, or an item is indented too little."""
    for page in site.rglob("*.html"):
        article = page.read_text(encoding="utf-8").partition("<article")[2].partition("</article>")[0]
        prose = re.sub(r"<pre.*?</pre>|<[^>]*>", "", article, flags=re.DOTALL)
        assert re.findall(r"^(?:\d+\.|[-*]) .*", prose, re.MULTILINE) == [], page.name


def test_links_of_the_root_pages_lead_to_pages_of_the_site() -> None:
    text = "[a](docs/architecture.md#memory) [b](CHANGELOG.md) [c](https://example.org/docs/)"
    assert root_page(text) == "[a](architecture.md#memory) [b](changelog.md) [c](https://example.org/docs/)"


def test_a_notebook_as_a_page() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": ["x = 1\n", "x"]},
    ]
    assert notebook_page(json.dumps({"cells": cells})) == "# Title\ntext\n\n```python\nx = 1\nx\n```\n"
