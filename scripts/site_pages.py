"""Pages of the site that lie elsewhere in the repository, put where mkdocs.yml names them when the site is built."""

from __future__ import annotations

import json
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
ROOT_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Called by MkDocs when it has found the files of ``docs/``: adds the others."""
    for name in ROOT_PAGES:
        content = root_page((ROOT / name).read_text(encoding="utf-8"))
        files.append(File.generated(config, name.lower(), content=content))
    for notebook in sorted((ROOT / "examples").glob("*.ipynb")):
        content = notebook_page(notebook.read_text(encoding="utf-8"))
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=content))
    return files


def root_page(text: str) -> str:
    """A page of the repository's root, with its links as they are among the pages of ``docs/``."""
    text = text.replace("](docs/", "](")
    return re.sub(rf"\]\(({'|'.join(map(re.escape, ROOT_PAGES))})", lambda match: f"]({match[1].lower()}", text)


def notebook_page(text: str) -> str:
    """A notebook as a page: its code cells become blocks of Python."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(f"```python\n{source}\n```" if cell["cell_type"] == "code" else source)
    return "\n\n".join(parts) + "\n"
