"""One server for all attacks: each must leave it as it was."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from tests.engine.published import SENTENCE_FILES, published_bert, write_files
from tests.engine.tiny_gguf import tiny_gguf
from tests.serve.attacks.harness import Target
from tests.serve.running import running


@pytest.fixture(scope="session")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("attacked")
    models = {
        "tiny": tiny_gguf(folder / "tiny.gguf"),
        "bert": write_files(folder / "bert", published_bert() | SENTENCE_FILES),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTON_HOME", str(folder / "home"))
        with running(models, max_body_bytes=4 << 20) as server:
            made = Target(server)
            gc.freeze()  # a server has no thousands of tests' objects, which each full collection would walk again
            try:
                yield made
            finally:
                gc.unfreeze()
            made.close()


@pytest.fixture
def target(attacked: Target) -> Iterator[Target]:
    """The server, which must be as it was afterwards."""
    yield attacked
    attacked.check()
