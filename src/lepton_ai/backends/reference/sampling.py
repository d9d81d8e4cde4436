"""Choosing tokens: the oracle of the native sampler. Which steps are f32 and which f64 is part of the contract.

For each row of logits ``x`` ``[V]`` f32 (NaN counts as -inf):

1. **Log-probabilities** come from the unmodified ``x``: ``x - m - log(sum exp(x - m))`` with ``m = max x``, in f64,
   rounded to f32. Alternatives are ordered by ``x`` descending, then id ascending.
2. **Biases and masks**: each bias is added in f32, in order; tokens that a mask leaves out become -inf.
3. **Penalties**, in f32, each operation rounded: for each distinct id of prompt and output, ``x = x / repetition`` if
   ``x > 0`` else ``x * repetition``; then for each id that the output holds ``n > 0`` times,
   ``x = x - (presence + frequency * f32(n))``.
4. **Greedy**: temperature 0 takes the largest ``x``, ties to the lowest id, and nothing below applies.
5. **Order**: ids by ``x`` descending, then id ascending; ``top_k > 0`` keeps the first k.
6. **Weights**, in f64: ``exp(f64(z))`` with ``z = (x - m) / temperature`` in f32, m the largest penalised ``x``; z is 0
   where x equals m, infinities included.
7. ``top_p < 1`` keeps the shortest prefix whose weight, summed in order in f64, is at least ``f64(top_p) * total``;
   then ``min_p > 0`` keeps weights of at least ``f64(min_p)``. The first is always kept.
8. **Draw**: with the running sums of the kept weights and ``u = philox.uniform(seed, draw)``, the first id whose
   running sum exceeds ``u * total``.

A row with a forced token takes that: only step 1 applies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lepton_ai.backends.base import Float32Array, SampledTokens, SamplingInputs
from lepton_ai.backends.reference.philox import uniform

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """The ids a row may draw, most likely first, and the running sums of their weights (f64)."""

    token_ids: npt.NDArray[np.int64]
    cumulative: Float64Array

    def draw(self, number: float) -> int:
        """The id that ``number`` in [0, 1) falls on."""
        target = number * self.cumulative[-1]
        return int(self.token_ids[np.searchsorted(self.cumulative, target, side="right")])


def sample(logits: Float32Array, inputs: SamplingInputs) -> SampledTokens:
    """One token for each row of ``logits`` ``[R, V]``, and ``num_logprobs`` alternatives (at most V)."""
    clean = np.where(np.isnan(logits), np.float32(-np.inf), logits)
    forced = inputs.forced_ids.tolist()
    chosen = [choose(clean[row], inputs, row) if token < 0 else token for row, token in enumerate(forced)]
    token_ids = np.array(chosen, np.int32)
    logprobs = log_softmax(clean)
    num_top = min(int(inputs.num_logprobs.max(initial=0)), clean.shape[1])
    top_ids = _descending(clean)[:, :num_top]
    return SampledTokens(
        token_ids,
        np.take_along_axis(logprobs, token_ids[:, None].astype(np.int64), axis=1)[:, 0],
        top_ids.astype(np.int32),
        np.take_along_axis(logprobs, top_ids, axis=1),
    )


def choose(logits: Float32Array, inputs: SamplingInputs, row: int) -> int:
    """The token of one row; ``logits`` ``[V]`` hold no NaN."""
    penalised = penalise(logits, inputs, row)
    if inputs.temperature[row] == 0:
        return int(penalised.argmax())
    number = uniform(int(inputs.seeds[row]), int(inputs.draws[row]))
    return candidates(penalised, inputs, row).draw(number)


def bias_and_mask(logits: Float32Array, inputs: SamplingInputs, row: int) -> Float32Array:
    """Step 2 for one row ``[V]``."""
    x = logits.copy()
    biases = slice(inputs.bias_offsets[row], inputs.bias_offsets[row + 1])
    np.add.at(x, inputs.bias_ids[biases], inputs.bias_values[biases])
    if inputs.mask_rows[row] >= 0:
        words = inputs.token_masks[inputs.mask_rows[row]].view(np.uint8)
        x[np.unpackbits(words, bitorder="little")[: len(x)] == 0] = -np.inf
    return x


def penalise(logits: Float32Array, inputs: SamplingInputs, row: int) -> Float32Array:
    """Steps 2 and 3 for one row ``[V]``."""
    start, stop = inputs.history_offsets[row], inputs.history_offsets[row + 1]
    seen = inputs.history[start:stop]
    output = seen[inputs.num_prompt_tokens[row] :]
    x = bias_and_mask(logits, inputs, row)
    every_id = np.unique(seen)
    repetition = inputs.repetition_penalty[row]
    x[every_id] = np.where(x[every_id] > 0, x[every_id] / repetition, x[every_id] * repetition)
    output_ids, counts = np.unique(output, return_counts=True)
    x[output_ids] -= inputs.presence_penalty[row] + inputs.frequency_penalty[row] * counts.astype(np.float32)
    return x


def candidates(logits: Float32Array, inputs: SamplingInputs, row: int) -> Candidates:
    """Steps 5 to 7 for one row of penalised logits ``[V]``, at a temperature above 0."""
    order = _descending(logits)
    if inputs.top_k[row] > 0:
        order = order[: inputs.top_k[row]]
    weights = _weights(logits[order], inputs.temperature[row])
    if inputs.top_p[row] < 1:
        cumulative = np.cumsum(weights)
        target = np.float64(inputs.top_p[row]) * cumulative[-1]
        weights = weights[: int(np.searchsorted(cumulative, target, side="left")) + 1]
    if inputs.min_p[row] > 0:
        weights = weights[: max(1, int((weights >= np.float64(inputs.min_p[row])).sum()))]
    return Candidates(order[: len(weights)], np.cumsum(weights))


def _weights(logits: Float32Array, temperature: np.float32) -> Float64Array:
    """Step 6, for logits in descending order."""
    with np.errstate(over="ignore", invalid="ignore"):
        z = np.where(logits == logits[0], np.float32(0), (logits - logits[0]) / temperature)
    return np.exp(z.astype(np.float64))


def _descending(logits: Float32Array) -> npt.NDArray[np.int64]:
    """Ids along the last axis by logit, largest first, ties to the lowest id."""
    return np.argsort(-logits, axis=-1, kind="stable")


def log_softmax(logits: Float32Array) -> Float32Array:
    """Log-probabilities of rows ``[R, V]``: computed in f64, rounded to f32."""
    wide = logits.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        shifted = wide - wide.max(axis=-1, keepdims=True)
        logprobs: Float32Array = (shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))).astype(np.float32)
    return logprobs
