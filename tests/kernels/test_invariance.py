"""The reduction-order rule: a request's logits have the same bits whatever runs beside it, however its prompt is cut,
on any number of threads, with a cached prefix or without."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import cycle, pairwise

import numpy as np
import pytest
from tests.kernels.harness import QUANTISED, Floats
from tests.models.tiny import MemoryStore, random_tensor, step, tiny_model
from tests.weights.blocks import multiply_scales

from lepton_ai.backends.base import StepInputs
from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.cpu.executable import CpuExecutable
from lepton_ai.backends.reference.weights import hold
from lepton_ai.config import Limits, Policy
from lepton_ai.graph.passes.precision import kv_specs
from lepton_ai.graph.tensor import DType
from lepton_ai.models.decoder import DecoderModel
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.store import StoredTensor

LIMITS = Limits(max_tokens=256, max_rows=256, max_seqs=80, max_model_len=128)
CHANGES = {"embedding_length": 256, "feed_forward_length": 288}
TOKENS = [int(i) for i in np.random.default_rng(1).integers(0, 50, 70)]
BLOCKS = [9, 2, 14, 5, 0]
OTHERS = [[20 + 2 * i, 21 + 2 * i] for i in range(63)]
NUM_BLOCKS = 150
Setting = tuple[str, Policy, DType | None]


def tamed(tensor: StoredTensor) -> StoredTensor:
    """The tensor with its f16 scales multiplied so that a product has about unit gain."""
    values = hold(tensor).values()
    factor = 1 / np.sqrt(tensor.shape[1] * np.mean(np.square(values, dtype=np.float64)))
    blocks = tensor.data.reshape(-1, tensor.type.block_bytes).copy()
    multiply_scales(blocks, tensor.type, factor)
    return StoredTensor(tensor.name, tensor.shape, tensor.type, blocks.reshape(-1))


@cache
def quantised_model(architecture: str) -> tuple[DecoderModel, MemoryStore]:
    """Two layers whose matrices are of every quantised type."""
    model, store = tiny_model(architecture, CHANGES)
    in_short = (WeightType.Q4_0, WeightType.Q5_0)
    long, short = cycle([t for t in QUANTISED if t not in in_short]), cycle(in_short)
    tensors = dict(store.tensors)
    for seed, (name, tensor) in enumerate(store.tensors.items()):
        if len(tensor.shape) == 2:
            weight_type = next(short if tensor.shape[1] % 256 else long)
            tensors[name] = tamed(random_tensor(name, tensor.shape, weight_type, seed=seed))
    assert {t.type for t in tensors.values()} >= set(QUANTISED)
    return model, MemoryStore(tensors)


@cache
def compiled(isa: str, num_threads: int, setting: Setting) -> CpuExecutable:
    architecture, policy, kv_dtype = setting
    model, store = quantised_model(architecture)
    backend = CpuBackend(CpuDevice(num_threads=num_threads, isa=isa))
    return backend.compile(model.build(head="logits"), store, LIMITS, policy=policy, kv_dtype=kv_dtype)


def logits_of(executable: CpuExecutable, steps: Sequence[StepInputs]) -> list[Floats]:
    """Logits of every token of each step, on a fresh cache."""
    blocks = CpuBackend(CpuDevice(num_threads=1)).allocate_kv(kv_specs(executable.plan.graph), [NUM_BLOCKS])
    return [executable.run(inputs, blocks).result().tensors["logits"].copy() for inputs in steps]


@cache
def alone(isa: str, setting: Setting) -> Floats:
    """The request by itself, in one step, on one thread."""
    return logits_of(compiled(isa, 1, setting), [step([(0, TOKENS, BLOCKS)])])[0]


PRECISIONS = ((Policy.AUTO, None), (Policy.EXACT, None), (Policy.AUTO, DType.I8), (Policy.AUTO, DType.I16))


@pytest.fixture(params=[(a, *p) for a in ("llama", "qwen2") for p in PRECISIONS], ids=str)
def setting(request: pytest.FixtureRequest) -> Setting:
    """Architecture, policy, and what the cache holds instead of the policy's own."""
    architecture, policy, kv_dtype = request.param
    return architecture, policy, kv_dtype


@pytest.fixture
def executable(device: CpuDevice, setting: Setting) -> CpuExecutable:
    """The model on the device."""
    return compiled(device.isa, device.num_threads, setting)


def test_the_model_is_a_sensible_one(device: CpuDevice, setting: Setting) -> None:
    logits = alone(device.isa, setting)
    assert np.isfinite(logits).all() and 0.1 < logits.std() < 10
    assert np.unique(logits.argmax(axis=1)).size > 10


@pytest.mark.parametrize("size", [1, 7, 64])
def test_chunks_of_a_prompt(device: CpuDevice, setting: Setting, executable: CpuExecutable, size: int) -> None:
    cuts = pairwise([*range(0, len(TOKENS), size), len(TOKENS)])
    got = logits_of(executable, [step([(a, TOKENS[a:b], BLOCKS)]) for a, b in cuts])
    assert np.array_equal(np.concatenate(got), alone(device.isa, setting))


def test_other_requests_in_the_step(device: CpuDevice, setting: Setting, executable: CpuExecutable) -> None:
    want, last = alone(device.isa, setting), len(TOKENS) - 1
    prompts = [step([(0, TOKENS[:last], BLOCKS)])]
    prompts += [step([(0, TOKENS[i : i + 3], blocks) for i, blocks in enumerate(OTHERS)])]
    decodes = []
    counts = [*range(1, 18), 64]
    for count in counts:
        chunks = [(3, [i % 50], blocks) for i, blocks in enumerate(OTHERS[: count - 1])]
        place = count // 2
        chunks.insert(place, (last, TOKENS[last:], BLOCKS))
        decodes.append((place, step(chunks)))
    got = logits_of(executable, [*prompts, *(inputs for _, inputs in decodes)])[len(prompts) :]
    for count, (place, _), logits in zip(counts, decodes, got, strict=True):
        assert np.array_equal(logits[place], want[last]), f"among {count}"


def test_a_prompt_beside_prompts_and_decodes(device: CpuDevice, setting: Setting, executable: CpuExecutable) -> None:
    first = step([(0, TOKENS[i : i + 20], blocks) for i, blocks in enumerate(OTHERS[:10])])
    chunks = [(20, [i], blocks) for i, blocks in enumerate(OTHERS[:10])]
    mixed = step([*chunks[:5], (0, TOKENS, BLOCKS), *chunks[5:], (0, TOKENS[5:30], OTHERS[20])])
    got = logits_of(executable, [first, mixed])[1]
    assert np.array_equal(got[5:75], alone(device.isa, setting))


def test_only_some_logits(device: CpuDevice, setting: Setting, executable: CpuExecutable) -> None:
    for rows in ([69], [3, 50, 2], list(range(5, 22))):
        (got,) = logits_of(executable, [step([(0, TOKENS, BLOCKS)], logit_rows=rows)])
        assert np.array_equal(got, alone(device.isa, setting)[rows])


@pytest.mark.parametrize("shared", [1, 4])
def test_a_cached_prefix(device: CpuDevice, setting: Setting, executable: CpuExecutable, shared: int) -> None:
    # Another request left its blocks; this one takes those of the common prefix and goes on in blocks of its own.
    other = [*TOKENS[: 16 * shared], 7, 7, 7]
    blocks = [*BLOCKS[:shared], 30, 31, 32, 33][:5]
    steps = [step([(0, other, BLOCKS)]), step([(16 * shared, TOKENS[16 * shared :], blocks)])]
    assert np.array_equal(logits_of(executable, steps)[1], alone(device.isa, setting)[16 * shared :])
