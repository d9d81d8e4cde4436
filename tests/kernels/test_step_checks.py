"""Every check of native/bindings.cpp: a step that does not fit is refused before any kernel reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np
import numpy.typing as npt
import pytest
from tests.kernels.harness import ints, normal, plain_step
from tests.models.tiny import random_tensor, step, tiny_model

from lepton_ai.backends.base import KVGroupInputs, SamplingInputs, StepInputs
from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.cpu.executable import CpuExecutable
from lepton_ai.backends.cpu.kv_cache import CpuKVCache
from lepton_ai.config import Limits, Policy
from lepton_ai.errors import HardwareUnsupported, InvalidRequest
from lepton_ai.graph import ops
from lepton_ai.graph.attrs import KVSpec
from lepton_ai.graph.tensor import DType, Weight, symbol
from lepton_ai.graph.trace import Trace
from lepton_ai.models.base import Head
from lepton_ai.weights.formats import WeightType

LIMITS = Limits(max_tokens=12, max_rows=4, max_seqs=2, max_model_len=40)
VOCAB = 50
Compiled = tuple[CpuExecutable, CpuKVCache]


def compiled(head: Head) -> Compiled:
    model, store = tiny_model()
    backend = CpuBackend(CpuDevice(num_threads=1))
    executable = backend.compile(model.build(head=head), store, LIMITS, policy=Policy.EXACT)
    return executable, backend.allocate_kv(model.kv_specs(), [4])


@pytest.fixture(scope="module")
def logits() -> Compiled:
    """The tiny model up to its logits."""
    return compiled("logits")


@pytest.fixture(scope="module")
def scores() -> Compiled:
    """The tiny model up to log-probabilities of targets."""
    return compiled("logprobs")


def good() -> StepInputs:
    """Two sequences: 3 new tokens after 17, and 2 new ones."""
    return step([(17, [1, 2, 3], [0, 3]), (0, [4, 5], [2])], logit_rows=[2, 4])


def sampling(num_rows: int = 2, **changes: npt.NDArray[np.generic]) -> SamplingInputs:
    """Settings of ``num_rows`` rows, some of them replaced."""
    kinds = {"seeds": np.uint64, "draws": np.uint64}
    ints_too = ("top_k", "num_logprobs", "num_prompt_tokens")
    values: dict[str, npt.NDArray[np.generic]] = {}
    for field in fields(SamplingInputs):
        kind = np.int32 if field.name in ints_too else kinds.get(field.name, np.float32)
        values[field.name] = np.ones(num_rows, kind)
    values |= {"history": ints([7, 8, 9]), "history_offsets": ints([0, 2, 3]), "num_prompt_tokens": ints([1, 0])}
    values |= {"bias_ids": ints([3]), "bias_values": np.ones(1, np.float32), "bias_offsets": ints([0, 1, 1])}
    values |= {"mask_rows": ints([-1, -1]), "token_masks": np.zeros((0, 0), np.int32), "forced_ids": ints([-1, 3])}
    return SamplingInputs(**{**values, **changes})  # type: ignore[arg-type]


def tables(*rows: list[int]) -> list[KVGroupInputs]:
    return [KVGroupInputs(np.array(rows, np.int32))]


BAD_STEPS: Mapping[str, tuple[str, dict[str, object]]] = {
    "no tokens": ("token_ids", {"token_ids": ints([]), "positions": ints([]), "query_offsets": ints([0, 0, 0])}),
    "too many tokens": ("token_ids", {"token_ids": ints([1] * 13), "positions": ints([0] * 13)}),
    "token id below 0": ("token_ids", {"token_ids": ints([1, 2, -1, 4, 5])}),
    "token id past the vocabulary": ("token_ids", {"token_ids": ints([1, 2, VOCAB, 4, 5])}),
    "too few positions": ("positions", {"positions": ints([0] * 4)}),
    "no sequences": ("kv_lengths", {"kv_lengths": ints([])}),
    "too many sequences": ("kv_lengths", {"kv_lengths": ints([20, 2, 2])}),
    "too few offsets": ("query_offsets", {"query_offsets": ints([0, 5])}),
    "offsets that do not start at 0": ("query_offsets", {"query_offsets": ints([1, 3, 5])}),
    "offsets that end early": ("query_offsets", {"query_offsets": ints([0, 3, 4])}),
    "offsets that stand still": ("query_offsets", {"query_offsets": ints([0, 5, 5])}),
    "offsets that go back": ("query_offsets", {"query_offsets": ints([0, 7, 5])}),
    "lengths below the new tokens": ("kv_lengths", {"kv_lengths": ints([2, 2])}),
    "lengths below 0": ("kv_lengths", {"kv_lengths": ints([-(2**31), 2])}),
    "lengths past the limit": ("kv_lengths", {"kv_lengths": ints([41, 2])}),
    "no tables": ("block_tables", {"kv_groups": []}),
    "too many tables": ("block_tables", {"kv_groups": tables([0, 3], [2, 0]) * 9}),
    "a table of too few sequences": ("block_tables", {"kv_groups": tables([0, 3])}),
    "a table of too few blocks": ("block_tables", {"kv_groups": tables([0], [2])}),
    "a block below 0": ("block_tables", {"kv_groups": tables([0, -1], [2, 0])}),
    "a block past the cache": ("block_tables", {"kv_groups": tables([0, 4], [2, 0])}),
    "too many rows": ("logit_rows", {"logit_rows": ints([0] * 5)}),
    "a row below 0": ("logit_rows", {"logit_rows": ints([0, -1])}),
    "a row past the tokens": ("logit_rows", {"logit_rows": ints([0, 5])}),
    "too few settings": ("sampling", {"sampling": sampling(top_k=ints([1]))}),
    "too many settings": ("sampling", {"sampling": sampling(temperature=np.ones(3, np.float32))}),
    "too few history offsets": ("history_offsets", {"sampling": sampling(history_offsets=ints([0, 3]))}),
    "history offsets past the history": ("history_offsets", {"sampling": sampling(history_offsets=ints([0, 2, 4]))}),
    "history offsets below 0": ("history_offsets", {"sampling": sampling(history_offsets=ints([-1, 2, 3]))}),
    "history offsets that go back": ("history_offsets", {"sampling": sampling(history_offsets=ints([3, 2, 3]))}),
    "a history id past the vocabulary": ("history", {"sampling": sampling(history=ints([7, VOCAB, 9]))}),
    "a history id below 0": ("history", {"sampling": sampling(history=ints([7, -1, 9]))}),
    "prompt counts below 0": ("num_prompt_tokens", {"sampling": sampling(num_prompt_tokens=ints([-1, 0]))}),
    "prompt counts past the history": ("num_prompt_tokens", {"sampling": sampling(num_prompt_tokens=ints([1, 2]))}),
    "too few temperatures": ("sampling", {"sampling": sampling(temperature=np.ones(1, np.float32))}),
    "a bias past the vocabulary": ("bias", {"sampling": sampling(bias_ids=ints([VOCAB]))}),
    "bias offsets past the biases": ("bias_offsets", {"sampling": sampling(bias_offsets=ints([0, 1, 2]))}),
    "too few bias values": ("bias_values", {"sampling": sampling(bias_values=np.ones(0, np.float32))}),
    "a mask that is not there": ("mask_rows", {"sampling": sampling(mask_rows=ints([-1, 0]))}),
    "a mask below none": ("mask_rows", {"sampling": sampling(mask_rows=ints([-2, -1]))}),
    "a mask that is too short": ("token_masks", {"sampling": sampling(token_masks=np.ones((1, 1), np.int32))}),
    "a forced token past the vocabulary": ("forced_ids", {"sampling": sampling(forced_ids=ints([-1, VOCAB]))}),
    "a forced token below none": ("forced_ids", {"sampling": sampling(forced_ids=ints([-2, 0]))}),
    "too few forced tokens": ("sampling", {"sampling": sampling(forced_ids=ints([-1]))}),
    "alternatives below 0": ("num_logprobs", {"sampling": sampling(num_logprobs=ints([0, -1]))}),
}


@pytest.mark.parametrize("problem", BAD_STEPS)
def test_a_step_that_does_not_fit_is_refused(logits: Compiled, problem: str) -> None:
    executable, cache = logits
    name, changes = BAD_STEPS[problem]
    with pytest.raises(InvalidRequest, match=name):
        executable.run(replace(good(), **changes), cache)  # type: ignore[arg-type]


def test_a_refused_step_leaves_no_trace(logits: Compiled) -> None:
    executable, cache = logits
    inputs = replace(good(), sampling=sampling())
    before = executable.run(inputs, cache).result().tensors["logits"].copy()
    with pytest.raises(InvalidRequest):
        executable.run(replace(good(), kv_lengths=ints([41, 2])), cache)
    assert np.array_equal(executable.run(inputs, cache).result().tensors["logits"], before)


@pytest.mark.parametrize("targets", [None, [1], [1, 2, 3], [1, VOCAB], [-1, 1]], ids=str)
def test_targets(scores: Compiled, targets: list[int] | None) -> None:
    executable, cache = scores
    executable.run(replace(good(), targets=ints([0, VOCAB - 1])), cache)
    with pytest.raises(InvalidRequest, match="targets"):
        executable.run(replace(good(), targets=None if targets is None else ints(targets)), cache)


def test_steps_may_have_no_rows(logits: Compiled) -> None:
    executable, cache = logits
    outputs = executable.run(replace(good(), logit_rows=ints([])), cache).result()
    assert outputs.tensors["logits"].shape == (0, VOCAB)


@pytest.mark.parametrize("shape", [(4, 8), (6, 8), (5, 7), (5, 9), (5,)], ids=str)
def test_named_inputs_of_another_shape(shape: tuple[int, ...]) -> None:
    trace = Trace()
    x = trace.input("x", (symbol("T"), 8), DType.F32)
    graph = trace.finish([ops.add(x, x, name="y")])
    backend = CpuBackend(CpuDevice(num_threads=1))
    executable = backend.compile(graph, tiny_model()[1], LIMITS, policy=Policy.EXACT)
    cache = backend.allocate_kv([], [])
    executable.run(plain_step({"x": normal((5, 8), 0)}, token_ids=[0] * 5), cache)
    with pytest.raises(InvalidRequest, match="x"):
        executable.run(plain_step({"x": normal(shape, 0)}, token_ids=[0] * 5), cache)
    with pytest.raises(InvalidRequest, match="x"):
        executable.run(plain_step(token_ids=[0] * 5), cache)


def test_packing_checks_its_arrays() -> None:
    device = CpuDevice(num_threads=1).native
    tensor, kind = random_tensor("w", (20, 64), WeightType.Q4_0, seed=0), _native.panel_kind("Q4_0", narrowing="none")
    target = np.empty(_native.matrix_bytes(kind, 20, 64), np.uint8)

    def pack(type_name: str, source: npt.NDArray[np.uint8], into: npt.NDArray[np.uint8], num_inputs: int = 64) -> None:
        _native.pack(device, type=type_name, narrowing="none", source=source, num_outputs=20, num_inputs=num_inputs,
                     target=into)  # fmt: skip

    pack("Q4_0", tensor.data, target)
    with pytest.raises(ValueError, match="storage type"):
        pack("Q4_9", tensor.data, target)
    with pytest.raises(ValueError, match="source"):
        pack("Q4_0", tensor.data[1:], target)
    with pytest.raises(ValueError, match="target"):
        pack("Q4_0", tensor.data, target[1:])
    with pytest.raises(ValueError, match="num_inputs"):
        pack("Q4_0", tensor.data, target, 65)
    with pytest.raises(ValueError, match="kind"):
        _native.matrix_bytes(99, 16, 32)


def test_unknown_instruction_sets() -> None:
    with pytest.raises(HardwareUnsupported, match="isa"):
        CpuDevice(num_threads=1, isa="avx1024")
    with pytest.raises(ValueError, match="isa"):
        _native.CpuDevice(num_threads=1, isa="avx1024", scratch_bytes=0, tuning=_native.default_tuning("generic"))
    for count in (0, -1, 257):
        with pytest.raises(InvalidRequest, match="num_threads"):
            CpuDevice(num_threads=count)


def test_a_cache_of_fewer_layers_is_refused(logits: Compiled) -> None:
    executable, _ = logits
    backend = CpuBackend(CpuDevice(num_threads=1))
    with pytest.raises(InvalidRequest, match="kv_layers"):
        executable.run(good(), backend.allocate_kv(tiny_model()[0].kv_specs()[:1], [4]))


def test_ids_are_checked_by_the_blocks_of_their_group() -> None:
    trace = Trace()
    inputs = [trace.input(name, (symbol("T"), 16), DType.F32) for name in ("q", "k", "v")]
    for layer, window in enumerate((None, 8)):
        y = ops.attention(
            *inputs, num_heads=1, kv=KVSpec(1, 16, window=window), layer=layer, scale=1.0, name=f"y{layer}"
        )
        inputs[0] = y
    backend = CpuBackend(CpuDevice(num_threads=1))
    executable = backend.compile(trace.finish([y]), tiny_model()[1], LIMITS, policy=Policy.EXACT)
    cache = backend.allocate_kv([KVSpec(1, 16), KVSpec(1, 16, window=8)], [5, 2])
    tensors = {name: normal((3, 16), seed) for seed, name in enumerate("qkv")}

    def run(*ids: int) -> None:
        groups = [KVGroupInputs(np.array([[block]], np.int32)) for block in ids]
        executable.run(replace(plain_step(tensors), kv_groups=groups), cache)

    run(4, 1)
    run(4, 1, 99)  # nobody reads a third table
    for bad in ((5, 1), (4, 2), (4, -1)):
        with pytest.raises(InvalidRequest, match="block_tables"):
            run(*bad)


def test_vocabulary_is_that_of_the_table() -> None:
    trace = Trace()
    token_ids = trace.input("token_ids", (symbol("T"),), DType.I32)
    y = ops.embedding(token_ids, Weight("token_embd.weight", (VOCAB, 64)), name="y")
    backend = CpuBackend(CpuDevice(num_threads=1))
    executable = backend.compile(trace.finish([y]), tiny_model()[1], LIMITS, policy=Policy.EXACT)
    with pytest.raises(InvalidRequest, match="token_ids"):
        executable.run(plain_step(token_ids=[VOCAB]), backend.allocate_kv([], []))
