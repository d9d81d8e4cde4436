"""The policy auto against exact, on the goldens' text. `make parity` measures it on 20,000 tokens."""

from __future__ import annotations

from bench.divergence import measure_divergences
from tests.parity.fidelity import MAX_KL_NATS
from tests.parity.golden_file import Golden

from lepton_ai import LLM

MIN_TOP1_AGREEMENT = 0.95
"""97 % over 20,000 tokens; over 512, the standard error is 0.8 %."""


def test_auto_says_nearly_what_exact_says(auto: LLM, exact: LLM, golden: Golden) -> None:
    (divergence,) = measure_divergences([auto], exact, [golden.text_ids.tolist()])
    assert 0 < divergence.kl_divergence <= MAX_KL_NATS
    assert divergence.top1_agreement >= MIN_TOP1_AGREEMENT
