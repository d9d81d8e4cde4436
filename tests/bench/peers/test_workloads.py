from __future__ import annotations

import numpy as np
from bench.peers.workloads import DECODE_16, FIRST_ORDINARY_ID, PREFILL
from tests.bench.fake_worker import FakeEngine


def test_rates_count_the_tokens_of_all_requests() -> None:
    rng = np.random.default_rng(0)
    for workload in (PREFILL, DECODE_16):
        prompts = workload.draw(rng, 1000)
        assert [len(prompt) for prompt in prompts] == [workload.prompt_tokens] * workload.num_seqs
        assert workload.run(FakeEngine(), prompts) == 1000.0


def test_prompts_are_ordinary_tokens_and_never_the_same() -> None:
    rng = np.random.default_rng(0)
    (first,), (second,) = PREFILL.draw(rng, 1000), PREFILL.draw(rng, 1000)
    assert first[:16] != second[:16]
    assert min(first) >= FIRST_ORDINARY_ID and max(first) < 1000 - FIRST_ORDINARY_ID
