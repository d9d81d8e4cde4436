"""Models from the product's own cache, and the option that gives the live tests another interpreter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.parity.golden_file import FOLDER, Golden, read_golden

from lepton_ai import LLM
from lepton_ai.config import Environment
from lepton_ai.errors import DownloadFailed
from lepton_ai.weights.sources.progress import NoProgress
from lepton_ai.weights.sources.resolve import resolve

WIKI_TEXT = Path(__file__).resolve().parents[3] / "shared" / "data" / "wiki.test.raw"

MODELS = (
    "smollm2",
    pytest.param("qwen2.5-coder-0.5b", marks=pytest.mark.large),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--peers-python``: an interpreter with what bench/peers/requirements/parity.txt names."""
    parser.addoption("--peers-python", type=Path, help="interpreter that runs transformers and llama.cpp")


@pytest.fixture(scope="session")
def peers_python(request: pytest.FixtureRequest) -> Path:
    """The interpreter of other engines."""
    python = request.config.getoption("--peers-python")
    if python is None:
        pytest.skip("no --peers-python: run `make parity`")
    assert isinstance(python, Path)
    return python


@pytest.fixture(scope="session")
def wiki_text() -> bytes:
    """The raw test set of WikiText-2, which is no part of the repository."""
    if not WIKI_TEXT.exists():
        pytest.skip(f"there is no {WIKI_TEXT}")
    return WIKI_TEXT.read_bytes()


@pytest.fixture(scope="module", params=MODELS)
def model_name(request: pytest.FixtureRequest) -> str:
    """The models that have goldens."""
    name = request.param
    assert isinstance(name, str)
    return name


@pytest.fixture(scope="module")
def model_path(model_name: str) -> Path:
    """The model's file, downloaded if it is not there."""
    try:
        return resolve(model_name, Environment.read(), NoProgress())
    except DownloadFailed as error:
        pytest.skip(f"{model_name} cannot be fetched: {error.message}")


@pytest.fixture(scope="module")
def golden(model_name: str) -> Golden:
    """The golden of the model."""
    return read_golden(FOLDER / f"{model_name}.npz")


@pytest.fixture(scope="module")
def exact(model_path: Path) -> Iterator[LLM]:
    """The model under the policy exact."""
    with LLM(model_path, policy="exact", max_model_len=1024) as llm:
        yield llm


@pytest.fixture(scope="module")
def auto(model_path: Path) -> Iterator[LLM]:
    """The model under the policy auto."""
    with LLM(model_path, policy="auto", max_model_len=1024) as llm:
        yield llm
