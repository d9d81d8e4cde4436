"""What a backend is: it compiles a graph into an executable, and owns the KV memory the executable reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from lepton_ai.config import Limits, Policy
from lepton_ai.graph.attrs import BASE_TOKENS, KVSpec
from lepton_ai.graph.graph import Graph
from lepton_ai.graph.tensor import DType
from lepton_ai.weights.store import WeightStore

Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]

BLOCK_SIZE = 16
"""Tokens in one KV block."""

assert BLOCK_SIZE == BASE_TOKENS


@dataclass(frozen=True, slots=True)
class KVGroupInputs:
    """Block tables of the layers that share one KVSpec: ``[S, max_blocks]``; entry b holds tokens 16b to 16b+15.

    Groups stand in the order of ``graph.attrs.kv_groups``. Where no query of the step looks, for its window, an entry
    may be any block of the cache: what that holds, a NaN included, changes no bit.
    """

    block_tables: Int32Array


@dataclass(frozen=True, slots=True)
class SamplingInputs:
    """How to choose a token for each of the ``R`` rows; arrays are ``[R]`` unless said.

    ``temperature`` 0 is greedy. ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 are off; penalties are off at 1, 0 and 0.
    ``seeds`` and ``draws`` (u64; the position of the sampled token) fix the random number of a row. ``history`` holds,
    for rows with penalties, prompt and output ids so far, row after row: ``history_offsets`` ``[R + 1]`` i32, and
    ``num_prompt_tokens`` of each row's slice come from the prompt (repetition counts both, presence and frequency
    only output). ``num_logprobs`` most likely alternatives are returned for each row, at most ``MAX_LOGPROBS``.
    ``bias_values`` are added to the logits of ``bias_ids``, row after row: ``bias_offsets`` ``[R + 1]`` i32. A row may
    only choose the tokens whose bits are set in row ``mask_rows`` of ``token_masks`` ``[M, ceil(V / 32)]`` i32, token
    ``t`` being bit ``t % 32`` of word ``t // 32``; -1 stands for no mask, and a mask leaves at least one token.
    ``forced_ids`` are -1, or the token that a row gives instead of choosing one, whatever else is said of the row.
    """

    temperature: Float32Array
    top_k: Int32Array
    top_p: Float32Array
    min_p: Float32Array
    repetition_penalty: Float32Array
    presence_penalty: Float32Array
    frequency_penalty: Float32Array
    seeds: npt.NDArray[np.uint64]
    draws: npt.NDArray[np.uint64]
    num_logprobs: Int32Array
    history: Int32Array
    history_offsets: Int32Array
    num_prompt_tokens: Int32Array
    bias_ids: Int32Array
    bias_values: Float32Array
    bias_offsets: Int32Array
    mask_rows: Int32Array
    token_masks: Int32Array
    forced_ids: Int32Array


MAX_LOGPROBS = 20
"""Most alternatives whose log-probability a row can ask for."""


@dataclass(frozen=True, slots=True)
class StepInputs:
    """One ragged step. Sequence ``s`` owns tokens ``query_offsets[s] ... query_offsets[s+1]-1``.

    ``token_ids`` and ``positions`` are ``[T]`` i32; ``query_offsets`` ``[S+1]``; ``kv_lengths`` ``[S]`` counts the
    tokens of each sequence after this step. ``logit_rows`` ``[R]`` are token indices whose logits are wanted.
    ``targets`` ``[R]`` are given when the graph ends in ``token_logprob``. ``token_type_ids`` ``[T]`` say which of its
    texts a token belongs to; None stands for zeros, whatever the graph reads. ``sampling`` None means: no token is
    chosen. ``tensors`` holds the graph inputs that no field above names, by name: a slice of a graph has such.

    The same object may be run again with other values in its arrays, ``sampling.num_logprobs`` excepted, which sizes
    outputs: an executable may keep what it derived from the object.
    """

    token_ids: Int32Array
    positions: Int32Array
    query_offsets: Int32Array
    kv_lengths: Int32Array
    kv_groups: Sequence[KVGroupInputs]
    logit_rows: Int32Array
    targets: Int32Array | None = None
    token_type_ids: Int32Array | None = None
    sampling: SamplingInputs | None = None
    tensors: Mapping[str, Float32Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """Chosen (or forced) ids ``[R]`` with their log-probability under the unmodified logits, and the likeliest others.

    ``top_ids`` and ``top_logprobs`` are ``[R, n]`` with ``n`` the largest ``num_logprobs``, most likely first; ties go
    to the lowest id. Rows that asked for fewer hold more than they need.
    """

    token_ids: Int32Array
    logprobs: Float32Array
    top_ids: Int32Array
    top_logprobs: Float32Array


@dataclass(frozen=True, slots=True)
class StepOutputs:
    """Graph outputs by name (logits ``[R, V]``, taps, ...), and the sampled tokens if any were asked for.

    Arrays are valid until the next ``run`` of the same executable; copy what must live longer.
    """

    tensors: dict[str, Float32Array] = field(default_factory=dict)
    sampled: SampledTokens | None = None


class StepHandle(Protocol):
    """A step under way."""

    def result(self) -> StepOutputs:
        """Wait for the step and return its outputs."""
        ...


class KVCache(Protocol):
    """KV memory of all layers of one model, cut into blocks: ``num_blocks`` of each KV group.

    Block 0 is a valid block like any other.
    """

    num_blocks: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes held."""
        ...

    def copy_block(self, group: int, source: int, target: int) -> None:
        """Write the content of a block over another, in all layers of a KV group; not while a step runs."""
        ...


class Executable(Protocol):
    """A compiled graph."""

    def run(self, inputs: StepInputs, cache: KVCache) -> StepHandle:
        """Start one step. One step at a time; ``cache`` was made by the same backend for this graph's specs."""
        ...

    def set_weight(self, name: str, values: Float32Array) -> None:
        """Replace one weight by f32 values of the same shape.

        A matrix that 8-bit activations read is held in 8 bits, rotated where they are, anything else in f32.

        Raises InvalidRequest for an unknown name or another shape.
        """
        ...


@runtime_checkable
class TimedExecutable(Protocol):
    """What an executable has too, if its backend can say where the time of a step goes."""

    def set_timing(self, *, enabled: bool) -> None:
        """Measure the ops of each step from now on, or no longer; not while a step runs."""
        ...

    def take_seconds(self) -> dict[str, float]:
        """Seconds by kind of op since the last call."""
        ...


class Backend(Protocol):
    """Compiles graphs."""

    name: str

    def compile(
        self,
        graph: Graph,
        weights: WeightStore,
        limits: Limits,
        *,
        policy: Policy,
        taps: Sequence[str] = (),
        kv_dtype: DType | None = None,
    ) -> Executable:
        """Run the passes for this backend and make the graph runnable.

        ``graph`` is as traced. Tensors named in ``taps`` are kept and returned in ``StepOutputs.tensors``; no fusion
        crosses them. ``kv_dtype`` is the element type of the caches it will run with, None that of ``policy``.
        """
        ...

    def kv_dtype(self, policy: Policy, wanted: DType | None = None) -> DType:
        """What a KV cache is to hold: ``wanted``, or of what keeps the precision of ``policy`` what is fastest here."""
        ...

    def encoder_kv_dtype(self, policy: Policy) -> DType:
        """What is fastest here to hold keys and values of whole sequences in, with the precision of ``policy``."""
        ...

    def allocate_kv(self, specs: Sequence[KVSpec], num_blocks: Sequence[int]) -> KVCache:
        """KV memory for layers ``0 ... len(specs)-1``, each with its spec: ``num_blocks`` blocks of each KV group."""
        ...
