"""How far the policy ``exact`` lies from ``transformers`` in f64, against how far ``transformers`` in f32 does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tests.parity.golden_file import Golden

from lepton_ai import LLM, SamplingParams
from lepton_ai.engine.quality import Float64Array

MAX_ERROR_RATIO = 2.0
"""Our error by that of ``transformers`` in f32."""

MAX_KL_NATS = 0.005
"""Of the policy auto from exact, a token."""

MAX_KV_KL_NATS = 0.001
"""Of a KV cache in 8 bits from one in f16, a token."""

MAX_UNDECIDED_GAP = 1e-3
"""Where the two likeliest tokens lie closer than this in f64, either may be chosen."""


@dataclass(frozen=True, slots=True)
class TextLogits:
    """Of each position of the golden's text: the logits at its columns ``[N, E]``, and over the whole vocabulary the
    logarithm of the sum of exponentials and the likeliest token ``[N]``.
    """

    logits: npt.NDArray[np.float32]
    logsumexp: Float64Array
    argmax: npt.NDArray[np.int64]


def run_text(llm: LLM, golden: Golden) -> TextLogits:
    """Run the golden's text."""
    chosen, sums, tops, start = [], [], [], 0
    for piece in llm.logits(golden.text_ids.tolist()):
        columns = golden.columns[start : start + len(piece)]
        start += len(piece)
        chosen.append(np.take_along_axis(piece, columns.astype(np.int64), axis=1))
        top = piece.max(axis=1, keepdims=True).astype(np.float64)
        sums.append(np.log(np.exp(piece - top).sum(axis=1)) + top[:, 0])
        tops.append(piece.argmax(axis=1))
    return TextLogits(np.concatenate(chosen), np.concatenate(sums), np.concatenate(tops))


def root_mean_square(values: npt.NDArray[np.floating]) -> float:
    """In f64."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def undecided_departures(llm: LLM, golden: Golden) -> int:
    """Follow the golden's continuations greedily; how often we took the other of two tokens that nearly tie.

    After each such place the golden's token is taken and the rest is followed from there. Asserts that we depart
    nowhere else.
    """
    num_new = golden.continuations.shape[1]
    pending = [(row, 0) for row in range(len(golden.prompts))]
    num_departures = 0
    while pending:
        prompts = [[*golden.prompts[row].tolist(), *golden.continuations[row, :n].tolist()] for row, n in pending]
        params = [SamplingParams(temperature=0.0, max_tokens=num_new - n, ignore_eos=True) for _, n in pending]
        completions = llm.generate(prompts, params)
        departed = []
        for (row, start), completion in zip(pending, completions, strict=True):
            expected = golden.continuations[row, start:]
            different = np.flatnonzero(np.array(completion.token_ids) != expected)
            if not len(different):
                continue
            step = start + int(different[0])
            gap = golden.continuation_gaps[row, step]
            assert gap < MAX_UNDECIDED_GAP, f"prompt {row}, token {step}: another token, though the gap is {gap:.2e}"
            departed.append((row, step + 1))
        num_departures += len(departed)
        pending = [(row, start) for row, start in departed if start < num_new]
    return num_departures
