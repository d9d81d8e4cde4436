"""Gemma 3 from its GGUF file, over more tokens than its windows hold, against ``transformers``, live: `make parity`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from bench.worker import ROOT
from tests.parity.fidelity import MAX_ERROR_RATIO, root_mean_square

from lepton_ai import LLM
from lepton_ai.config import Environment
from lepton_ai.errors import DownloadFailed
from lepton_ai.weights.sources.progress import NoProgress
from lepton_ai.weights.sources.resolve import resolve

pytestmark = pytest.mark.parity

MODEL = "gemma3-270m"
WINDOW = 512
NUM_TOKENS = 1200
ROWS = np.arange(7, NUM_TOKENS, 8)
"""Positions that are compared, over the whole vocabulary."""


@pytest.fixture(scope="module")
def path() -> Path:
    """The model's file, downloaded if it is not there."""
    try:
        return resolve(MODEL, Environment.read(), NoProgress())
    except DownloadFailed as error:
        pytest.skip(f"{MODEL} cannot be fetched: {error.message}")


def rows_of(llm: LLM, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Our logits at ``ROWS``."""
    rows, start = [], 0
    for piece in llm.logits(ids.tolist()):
        places = ROWS - start
        rows.append(piece[places[(places >= 0) & (places < len(piece))]])
        start += len(piece)
    return np.concatenate(rows)


def test_exact_is_as_near_to_f64_as_transformers_in_f32(path: Path, peers_python: Path, tmp_path: Path) -> None:
    wanted, found = tmp_path / "wanted.npz", tmp_path / "found.npz"
    with LLM(path, policy="exact", max_model_len=NUM_TOKENS + 1) as llm:
        ids = np.random.default_rng(0).integers(0, llm.model_info.vocab_size, NUM_TOKENS)
        ours = rows_of(llm, ids)
    np.savez(wanted, ids=ids, rows=ROWS)
    options = ["--model", path, "--input", wanted, "--output", found]
    command = [str(peers_python), "-m", "scripts.transformers_logits", *map(str, options)]
    subprocess.run(command, cwd=ROOT, check=True)
    with np.load(found) as arrays:
        logits, f32_errors = arrays["logits"], arrays["f32_errors"]
    for part, rows in (("within", ROWS < WINDOW), ("past", ROWS >= WINDOW)):
        error, f32_error = root_mean_square(ours[rows] - logits[rows]), root_mean_square(f32_errors[rows])
        print(f"\n{part} the window: root mean square from f64: exact {error:.2e}, f32 {f32_error:.2e}")
        assert error <= MAX_ERROR_RATIO * f32_error
