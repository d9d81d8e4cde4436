"""Gemma 3 from its GGUF file, over more tokens than its windows hold, against ``transformers``, live: `make parity`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from bench.worker import ROOT
from tests.parity.fidelity import MAX_ERROR_RATIO, root_mean_square

from lepton_ai import LLM, SamplingParams
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


def test_blocks_that_left_the_window_are_used_again_and_no_bit_tells(path: Path) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=64, logprobs=2, ignore_eos=True)
    rng = np.random.default_rng(1)
    first, second = (rng.integers(1000, 200_000, NUM_TOKENS).tolist() for _ in range(2))
    with LLM(path, max_num_seqs=1, max_tokens_per_step=128, max_model_len=NUM_TOKENS + 200) as small:
        (group, _) = small._client._engine.scheduler._kv.groups
        assert group.window == WINDOW and group.num_blocks * 16 == NUM_TOKENS, "less than a request passes through"
        got = [small.generate([prompt], params)[0] for prompt in (first, second)]
        longer = [*second, *got[1].token_ids, *first[:40]]
        got.append(small.generate([longer], params)[0])
        assert got[-1].usage.cached_tokens == (NUM_TOKENS + 63) // 16 * 16 > 2 * WINDOW
        small._client.check_integrity()
    for prompt, completion in zip((first, second, longer), got, strict=True):
        with LLM(path) as large:
            (alone,) = large.generate([prompt], params)
        assert (completion.token_ids, completion.logprobs) == (alone.token_ids, alone.logprobs)
