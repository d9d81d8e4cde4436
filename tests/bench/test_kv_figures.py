from __future__ import annotations

import pytest
from bench.kv_figures import unfilled_share


def test_only_a_last_block_has_slots_without_a_token() -> None:
    assert unfilled_share([16, 32, 64]) == 0
    assert unfilled_share([1, 17]) == pytest.approx(30 / 48)
    assert unfilled_share([40]) == pytest.approx(8 / 48)
