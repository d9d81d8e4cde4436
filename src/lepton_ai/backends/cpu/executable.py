"""An encoded program bound to its arena: what runs a step."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from lepton_ai.backends.base import (
    MAX_LOGPROBS,
    Float32Array,
    KVCache,
    SampledTokens,
    SamplingInputs,
    StepInputs,
    StepOutputs,
)
from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.cpu.encode import EncodedProgram, encode
from lepton_ai.backends.cpu.encoding_state import Place
from lepton_ai.backends.cpu.kv_cache import CpuKVCache
from lepton_ai.backends.cpu.packing import PackedMatrix, PackedWeights, pack_matrix
from lepton_ai.errors import InvalidRequest
from lepton_ai.graph.node import Node
from lepton_ai.graph.passes.plan import Plan
from lepton_ai.graph.tensor import DType, Tensor, evaluate_shape

if TYPE_CHECKING:
    from lepton_ai.backends.cpu.work import CpuOp

ScalarT = TypeVar("ScalarT", np.float32, np.int32)


@dataclass(frozen=True, slots=True)
class FinishedStep:
    """The handle of a step that ran to its end."""

    outputs: StepOutputs

    def result(self) -> StepOutputs:
        """The outputs."""
        return self.outputs


class _BoundStep(NamedTuple):
    """What was made of a StepInputs object."""

    inputs: StepInputs
    arrays: _native.StepArrays
    finished: FinishedStep


class CpuExecutable:
    """A compiled graph on one device."""

    def __init__(self, plan: Plan, weights: PackedWeights, device: CpuDevice) -> None:
        self.plan = plan
        self._weights = weights
        self._device = device
        self._encoded: EncodedProgram = encode(plan, weights, device.tuning)
        device.native.reserve_scratch(self._encoded.scratch_bytes)
        limits = plan.limits
        bounds = (limits.max_tokens, limits.max_rows, limits.max_seqs, limits.max_model_len, _vocab_size(plan))
        self._arena = device.memory.zeros(self._encoded.arena_bytes, "activations")
        self._program = _native.Program(device.native, self._encoded.encoder, bounds, self._arena)
        # A steady decode step runs the same object as the one before it.
        self._bound: _BoundStep | None = None
        self._last_step_s = 0.0

    def on(self, device: CpuDevice) -> CpuExecutable:
        """The same program with the same weights on another device of the same instruction set."""
        assert device.isa == self._device.isa, f"weights are packed for {self._device.isa}, not for {device.isa}"
        return CpuExecutable(self.plan, self._weights, device)

    @property
    def arena_bytes(self) -> int:
        """Bytes of the activation arena, working buffers of ops included."""
        return self._arena.nbytes

    @property
    def weight_bytes(self) -> int:
        """Bytes of the packed matrices."""
        return sum(matrix.data.nbytes for matrix in self._weights.matrices.values())

    @property
    def ops(self) -> tuple[CpuOp, ...]:
        """What a step runs, in order, and how much work it is."""
        from lepton_ai.backends.cpu.work import describe_ops  # a model runs without it

        return describe_ops(self.plan.graph, self._encoded.owners, self._weights)

    def run(self, inputs: StepInputs, cache: KVCache) -> FinishedStep:
        """Run one step on the calling thread and the device's; the GIL is released meanwhile."""
        assert isinstance(cache, CpuKVCache)
        for name, place in self._encoded.input_places.items():
            self._fill_input(name, place, inputs)
        bound = self._bound
        try:
            if bound is None or bound.inputs is not inputs:
                self._bound = bound = _BoundStep(inputs, _step_arrays(inputs), FinishedStep(self._outputs(inputs)))
            self._run(bound.arrays, cache)
        except ValueError as error:
            raise InvalidRequest(f"step: {error}", param="inputs") from None
        return bound.finished

    def _run(self, arrays: _native.StepArrays, cache: CpuKVCache) -> None:
        """One step. What is left to be moved of mapped weights gets as long as the step before took: nobody waits long
        at once, and not at all who wants one token.
        """
        memory = self._weights.memory
        if memory.is_settled:
            self._program.run(arrays, cache.native)
            return
        memory.settle(self._last_step_s)
        begin = time.perf_counter()
        self._program.run(arrays, cache.native)
        self._last_step_s = time.perf_counter() - begin

    def set_weight(self, name: str, values: Float32Array) -> None:
        """Replace one weight by f32 values of the same shape.

        A matrix that 8-bit activations read is held in 8 bits, rotated where they are, anything else in f32.
        Raises InvalidRequest for an unknown name or another shape.
        """
        if name in self._weights.vectors:
            target = self._weights.vectors[name]
            _check_shape(name, values, target.shape)
            np.copyto(target, values)
            if name in self._encoded.biases:
                self._encoded.biases[name].set_table(target)
            return
        if name not in self._weights.matrices:
            raise InvalidRequest(f"name: the graph reads no weight called {name!r}", param="name")
        old = self._weights.matrices[name]
        _check_shape(name, values, (old.num_outputs, old.num_inputs))
        uses = self._encoded.uses[name]
        read_as = next((use.read_as for use in uses if use.read_as.num_terms), DType.F32)
        matrix = pack_matrix(self._device, values, read_as)
        self._weights.matrices[name] = matrix
        for use in uses:
            self._set_matrix(use.index, use.segment, matrix, use.bias)

    def take_seconds(self) -> dict[str, float]:
        """Seconds by kind of op since the last call; zero until ``set_timing``."""
        return dict(zip(OP_KINDS, self._program.take_seconds(), strict=True))

    def take_op_seconds(self) -> list[tuple[float, float]]:
        """Seconds of each of ``ops`` since they, or those by kind, were taken: waiting for other threads before it, and
        working."""
        return self._program.take_op_seconds()

    def set_timing(self, *, enabled: bool) -> None:
        """Measure the ops of each step from now on, at about 50 ns an op."""
        self._program.set_timing(enabled)

    def _set_matrix(self, index: int, segment: int, matrix: PackedMatrix, bias: str | None) -> None:
        native = matrix.native(None if bias is None else self._weights.vectors[bias])
        self._program.set_matrix(index, segment, native)

    def _fill_input(self, name: str, place: Place, inputs: StepInputs) -> None:
        if name not in inputs.tensors:
            raise InvalidRequest(f"tensors: expected an input called {name!r}", param="tensors")
        values, shape = inputs.tensors[name], evaluate_shape(self.plan.graph.tensor(name).shape, _symbol_sizes(inputs))
        if values.shape != shape:
            raise InvalidRequest(f"tensors: {name} has shape {shape} in this step, got {values.shape}", param="tensors")
        np.copyto(self._view(place, shape, np.float32), values)

    def _outputs(self, inputs: StepInputs) -> StepOutputs:
        symbols = _symbol_sizes(inputs)
        tensors = {tensor.name: self._tensor(tensor, symbols) for tensor in self.plan.results}
        places, sampling = self._encoded.sample, inputs.sampling
        if sampling is None or places is None:
            return StepOutputs(tensors)
        num_rows = len(inputs.logit_rows)
        width = min(MAX_LOGPROBS, max(sampling.num_logprobs.tolist(), default=0))
        rows, wide = (num_rows,), (num_rows, width)
        sampled = SampledTokens(
            token_ids=self._view(places.token_ids, rows, np.int32),
            logprobs=self._view(places.logprobs, rows, np.float32),
            top_ids=self._view(places.top_ids, wide, np.int32),
            top_logprobs=self._view(places.top_logprobs, wide, np.float32),
        )
        return StepOutputs(tensors, sampled)

    def _tensor(self, tensor: Tensor, sizes: dict[str, int]) -> Float32Array:
        buffer = self.plan.buffers[tensor.id]
        assert tensor.dtype is DType.F32, f"{tensor.name}: results are f32"
        return self._view((buffer.offset, buffer.row_bytes), evaluate_shape(tensor.shape, sizes), np.float32)

    def _view(self, place: Place, shape: tuple[int, ...], dtype: type[ScalarT]) -> npt.NDArray[ScalarT]:
        offset, stride = place
        strides = (stride,) if len(shape) == 1 else (stride, np.dtype(dtype).itemsize)
        return np.ndarray(shape, dtype, self._arena.data, offset, strides)


OP_KINDS = (
    "embedding",
    "rope_table",
    "norm",
    "quantize",
    "linear",
    "rope",
    "kv_write",
    "attend",
    "attend_merge",
    "add",
    "activate",
    "gather_rows",
    "pool",
    "l2_normalize",
    "token_logprob",
    "token_logprob_merge",
    "sample",
)
"""Kinds of records, in the order of native/step.h."""


def _step_arrays(inputs: StepInputs) -> _native.StepArrays:
    return _native.StepArrays(
        inputs.token_ids,
        inputs.positions,
        inputs.query_offsets,
        inputs.kv_lengths,
        [group.block_tables for group in inputs.kv_groups],
        inputs.logit_rows,
        inputs.targets,
        inputs.token_type_ids,
        _sampling_arrays(inputs.sampling),
    )


def _sampling_arrays(sampling: SamplingInputs | None) -> _native.SamplingArrays | None:
    if sampling is None:
        return None
    return (
        sampling.temperature,
        sampling.top_k,
        sampling.top_p,
        sampling.min_p,
        sampling.repetition_penalty,
        sampling.presence_penalty,
        sampling.frequency_penalty,
        sampling.seeds,
        sampling.draws,
        sampling.num_logprobs,
        sampling.history,
        sampling.history_offsets,
        sampling.num_prompt_tokens,
        sampling.bias_ids,
        sampling.bias_values,
        sampling.bias_offsets,
        sampling.mask_rows,
        sampling.token_masks,
        sampling.forced_ids,
    )


def _symbol_sizes(inputs: StepInputs) -> dict[str, int]:
    return {"T": len(inputs.token_ids), "R": len(inputs.logit_rows), "S": len(inputs.kv_lengths)}


def _check_shape(name: str, values: Float32Array, shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise InvalidRequest(f"values: {name} has shape {shape}, got {values.shape}", param="values")


def _vocab_size(plan: Plan) -> int:
    """Rows of the embedding table or of the head, whichever the graph has; ids are checked against it."""
    readers = [n for n in plan.graph.nodes if n.op == "token_logprob" or (n.op == "embedding" and _reads_ids(n))]
    sizes = [w.shape[0] for n in readers for w in n.weights]
    sizes += [t.shape[-1] for t in plan.graph.outputs if t.name == "logits" and isinstance(t.shape[-1], int)]
    return min(sizes, default=1 << 30)


def _reads_ids(embedding: Node) -> bool:
    return embedding.inputs[0].name == "token_ids"
