"""The live comparisons of `make parity`: transformers run again, and llama.cpp beside both policies."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bench.divergence import measure_divergences
from bench.model_files import read_windows
from bench.worker import ROOT, Worker
from tests.parity.fidelity import MAX_ERROR_RATIO, MAX_KL_NATS, root_mean_square, run_text, undecided_departures
from tests.parity.golden_file import Golden, read_golden

from lepton_ai import LLM

pytestmark = pytest.mark.parity

NUM_TOKENS = 20_000
MIN_TOP1_AGREEMENT = 0.97


@pytest.fixture(scope="module")
def fresh(
    model_name: str, model_path: Path, wiki_text: bytes, peers_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Golden:
    """A golden made now."""
    folder = tmp_path_factory.mktemp("golden")
    (folder / "text").write_bytes(wiki_text)
    options = ["--text", folder / "text", "--name", model_name, "--model", model_path, "--output", folder]
    command = [str(peers_python), "-m", "scripts.make_parity_goldens", *map(str, options)]
    subprocess.run(command, cwd=ROOT, check=True)
    return read_golden(folder / f"{model_name}.npz")


@pytest.fixture(scope="module")
def llama(model_path: Path, peers_python: Path) -> Iterator[Worker]:
    """llama.cpp with the same file."""
    command = [str(peers_python), "-m", "bench.peers.workers.llama_cpp", "--model", str(model_path), "--threads", "2"]
    with Worker(command) as worker:
        yield worker


def test_golden_is_what_transformers_computes(golden: Golden, fresh: Golden) -> None:
    np.testing.assert_array_equal(golden.text_ids, fresh.text_ids)
    np.testing.assert_array_equal(golden.prompts, fresh.prompts)
    np.testing.assert_array_equal(golden.columns, fresh.columns)
    np.testing.assert_array_equal(golden.continuations, fresh.continuations)
    np.testing.assert_allclose(golden.logits, fresh.logits, rtol=0, atol=1e-9)


def test_exact_against_transformers(exact: LLM, fresh: Golden) -> None:
    ours = run_text(exact, fresh).logits - fresh.logits
    theirs = fresh.logits_f32 - fresh.logits
    print(f"\nroot mean square from f64: exact {root_mean_square(ours):.2e}, f32 {root_mean_square(theirs):.2e}")
    assert root_mean_square(ours) <= MAX_ERROR_RATIO * root_mean_square(theirs)
    print(f"greedy continuations: {undecided_departures(exact, fresh)} departures where two tokens nearly tie")


def test_auto_and_llama_cpp_against_exact(
    model_path: Path, auto: LLM, exact: LLM, llama: Worker, wiki_text: bytes
) -> None:
    windows = read_windows(model_path, wiki_text, num_tokens=NUM_TOKENS)
    ours, theirs = measure_divergences([auto, llama], exact, windows)
    print(f"\nfrom exact: auto {ours}, llama.cpp {theirs}")
    assert ours.kl_divergence <= min(MAX_KL_NATS, theirs.kl_divergence)
    assert ours.top1_agreement >= MIN_TOP1_AGREEMENT
