from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from tests.engine.fakes import FakeCache, FakeExecutable, next_token

from lepton_ai.config import Limits
from lepton_ai.engine.prompt_pass import PromptPass

SEQUENCES = [np.arange(start, start + length, dtype=np.int32) for start, length in [(0, 50), (60, 1), (70, 20)]]


def make(output: str, limits: Limits, num_kv_groups: int = 1) -> tuple[PromptPass, list[int]]:
    sizes: list[int] = []

    def allocate(num_blocks: int) -> FakeCache:
        sizes.append(num_blocks)
        return FakeCache(*[num_blocks] * num_kv_groups)

    executable = FakeExecutable(limits)
    return PromptPass(executable, allocate, num_kv_groups, limits, output, nullcontext), sizes


@pytest.mark.parametrize(("max_tokens", "max_rows", "max_seqs"), [(64, 64, 8), (16, 64, 8), (64, 7, 8), (64, 64, 1)])
def test_every_position_of_every_sequence(max_tokens: int, max_rows: int, max_seqs: int) -> None:
    limits = Limits(max_tokens=max_tokens, max_rows=max_rows, max_seqs=max_seqs)
    prompt_pass, sizes = make("logits", limits, num_kv_groups=2)
    pieces = list(prompt_pass.run(SEQUENCES))
    assert max(len(p) for p in pieces) <= min(max_tokens, max_rows)
    chosen = np.concatenate(pieces).argmax(axis=1).tolist()
    assert chosen == [next_token(s[: n + 1]) for s in SEQUENCES for n in range(len(s))]
    assert sizes == [4 + 1 + 2]


def test_targets_go_with_their_rows() -> None:
    prompt_pass, _ = make("logprobs", Limits(max_tokens=16, max_rows=16, max_seqs=4))
    targets = [s + 1 for s in SEQUENCES]
    values = np.concatenate(list(prompt_pass.run(SEQUENCES, targets)))
    expected = [-(float(t) + n + 1) for target in targets for n, t in enumerate(target)]
    assert values.tolist() == expected
