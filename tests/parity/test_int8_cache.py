"""A KV cache in 8 bits against one in f16, on text that fills long contexts.

Under the policy exact, where nothing else is rounded. Under auto, any change of a cache, from f16 to f32 too, moves
activations across the middles of their 8-bit codes, which alone is 0.002 of SmolLM2: there, the distance is from exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.divergence import measure_divergences
from tests.parity.fidelity import MAX_KL_NATS, MAX_KV_KL_NATS

from lepton_ai import LLM

CONTEXT = 1024
NUM_WINDOWS = 2
MIN_TOP1_AGREEMENT = 0.97


@pytest.fixture(scope="module")
def windows(exact: LLM, wiki_text: bytes) -> list[list[int]]:
    """Whole contexts of text."""
    ids = exact.tokenizer.encode(wiki_text[: 8 * NUM_WINDOWS * CONTEXT])
    cut = [ids[i * CONTEXT : (i + 1) * CONTEXT] for i in range(NUM_WINDOWS)]
    assert [len(window) for window in cut] == [CONTEXT] * NUM_WINDOWS
    return cut


@pytest.fixture(scope="module", params=["exact", "auto"])
def policy(request: pytest.FixtureRequest) -> str:
    """What else is rounded: nothing, or activations."""
    name = request.param
    assert isinstance(name, str)
    return name


@pytest.fixture(scope="module")
def int8(model_path: Path, policy: str) -> Iterator[LLM]:
    """The model with a cache in 8 bits."""
    with LLM(model_path, policy=policy, kv_dtype="int8", max_model_len=CONTEXT) as llm:
        yield llm


def test_8_bits_say_nearly_what_f16_says(
    int8: LLM, policy: str, exact: LLM, model_path: Path, windows: list[list[int]]
) -> None:
    with LLM(model_path, policy="exact", kv_dtype="f16", max_model_len=CONTEXT) as f16:
        assert int8.model_info.kv_bytes < 0.6 * f16.model_info.kv_bytes
        reference, bound = (f16, MAX_KV_KL_NATS) if policy == "exact" else (exact, MAX_KL_NATS)
        (divergence,) = measure_divergences([int8], reference, windows)
    print(f"\nKL of int8 under {policy}: {divergence.kl_divergence:.2e}, {divergence.top1_agreement:.1%} agree")
    assert 0 < divergence.kl_divergence <= bound
    assert divergence.top1_agreement >= MIN_TOP1_AGREEMENT
