"""What the documentation says to type does what it says: calls of curl and programs, as printed, against a server.

Models have the names in the documentation and random weights. Of a block, commands that begin with ``curl`` are run,
and what starts a server is not. A block of JSON or of events right below says what the last of them answers: an error
to the letter, and of anything else which keys it has.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.engine.published import SENTENCE_FILES, published_bert, write_files
from tests.engine.tiny_gguf import tiny_gguf
from tests.serve.running import Running, running
from tests.text.templates import QWEN2

from lepton_ai.serve.access import KeyRing
from lepton_ai.serve.access.key_file import read_keys

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    *sorted(ROOT.glob("README*.md")),
    *(ROOT / "docs" / f"{name}.md" for name in ("serving", "api", "operations", "monitoring", "load-testing")),
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


@dataclass(frozen=True)
class Block:
    """Commands of one block, and what is printed below it, of the language of that."""

    commands: tuple[str, ...]
    shown: str
    shown_as: str

    @property
    def needs_key(self) -> bool:
        return any("authorization" in command.lower() for command in self.commands)


def commands_in(block: str) -> Iterator[str]:
    """The commands of a block, of which some take several lines."""
    pending = ""
    for line in block.splitlines():
        pending += line
        try:
            shlex.split(pending, comments=True)
        except ValueError:  # a quote is open
            pending += "\n"
            continue
        if pending.endswith("\\"):
            pending += "\n"
            continue
        yield pending
        pending = ""
    assert not pending, block


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        curls = tuple(line for line in commands_in(match[2]) if line.startswith("curl")) if match[1] == "sh" else ()
        below = BLOCK.match(text, match.end() + 1)
        if curls:
            yield Block(curls, below[2] if below else "", below[1] if below else "")


BLOCKS = [pytest.param(block, id=f"{page.name}-{i}") for page in PAGES for i, block in enumerate(blocks_of(page))]
PROGRAMS = [match[2] for match in BLOCK.finditer((ROOT / "docs/serving.md").read_text()) if match[1] == "py"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "smollm2": tiny_gguf(folder / "smollm2.gguf", context_length=1024),
        "qwen2.5-coder-0.5b": tiny_gguf(folder / "qwen.gguf", template=QWEN2, context_length=2048),
        "minilm": write_files(folder / "bert", published_bert() | SENTENCE_FILES),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where lines are run. Keys are made by the lines that say how, as the documentation prints them."""
    folder = tmp_path_factory.mktemp("work")
    text = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    making = [
        line for match in BLOCK.finditer(text) for line in commands_in(match[2]) if line.startswith("lepton keys new")
    ]
    assert making
    for line in making:
        subprocess.run(["bash", "-ec", line], cwd=folder, env=environment(folder), check=True)
    return folder


def environment(folder: Path) -> Mapping[str, str]:
    """That of a shell in which Lepton is installed. curl says with which status a server answered."""
    (folder / ".curlrc").write_text('write-out = "%{stderr}%{http_code}\\n"\n', encoding="utf-8")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "CURL_HOME": str(folder), "LEPTON_HOME": str(folder)}


@pytest.fixture(scope="module")
def open_server(models: Mapping[str, Path], folder: Path) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTON_HOME", str(folder))
        with running(models) as made:
            yield made


@pytest.fixture(scope="module")
def keyed_server(models: Mapping[str, Path], folder: Path) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTON_HOME", str(folder))
        with running(models, KeyRing(read_keys(folder / "keys.json"))) as made:
            yield made


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl to run the lines with")
@pytest.mark.parametrize("block", BLOCKS)
def test_calls_of_curl_as_printed(block: Block, folder: Path, request: pytest.FixtureRequest) -> None:
    server: Running = request.getfixturevalue("keyed_server" if block.needs_key else "open_server")
    answers = [answer_to(command, server.url, folder) for command in block.commands]
    shown = (
        [each for each in parsed(block.shown) if isinstance(each, dict)] if block.shown_as in ("json", "text") else []
    )
    expects_error = any("error" in each for each in shown)
    for status, answer in answers[:-1] if expects_error else answers:
        assert status == 200 and answer
        assert not [each for each in parsed(answer) if isinstance(each, dict) and "error" in each], answer
    if expects_error:
        assert parsed(answers[-1][1]) == shown
    elif shown:
        assert distinct(parsed(answers[-1][1])) == distinct(shown)


def answer_to(command: str, url: str, folder: Path) -> tuple[int, str]:
    """The status and the body of what a line asks for, with the server's address in the place of that printed."""
    line, count = ADDRESS.subn(url, command)
    assert count == 1, command
    ran = subprocess.run(
        ["bash", "-ec", line], cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return int(ran.stderr.split()[-1]), ran.stdout


def parsed(text: str) -> list[Any]:
    """JSON, or that of each event; nothing of other texts, such as metrics."""
    events = re.findall(r"^data: (\{.*\})$", text, re.MULTILINE)
    if events:
        assert text.rstrip().endswith("data: [DONE]")
        return [json.loads(event) for event in events]
    return [json.loads(text)] if text.startswith("{") else []


def shape(value: Any) -> Any:
    """Which keys there are; of lists, what their items have, and of texts and numbers, nothing."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return [shape(inner) for inner in value[:1]] if isinstance(value, list) else None


def distinct(answers: list[Any]) -> list[Any]:
    """The shapes of answers, one of several equal ones in a row."""
    shapes = [shape(answer) for answer in answers]
    return [each for i, each in enumerate(shapes) if i == 0 or each != shapes[i - 1]]


def test_each_page_that_calls_curl_is_read() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    calling = {page for page in pages if re.search(r"^curl ", page.read_text(encoding="utf-8"), re.MULTILINE)}
    assert calling <= set(PAGES) and ROOT / "docs" / "api.md" in calling
    printed = sum(len(re.findall(r"^curl ", page.read_text(encoding="utf-8"), re.MULTILINE)) for page in calling)
    assert printed == sum(len(block.commands) for page in PAGES for block in blocks_of(page))
    assert PROGRAMS


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_as_printed(program: str, open_server: Running, folder: Path) -> None:
    source, count = ADDRESS.subn(open_server.url, program)
    assert count == 1
    ran = subprocess.run([sys.executable, "-c", source], capture_output=True, timeout=60, check=True)
    assert ran.stdout and not ran.stderr
