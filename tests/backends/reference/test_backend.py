from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from tests.models.llama_f64 import llama_f64
from tests.models.tiny import MemoryStore, random_tensor, step, tap_names, tiny_model
from tests.weights.blocks import quantize

from lepton_ai.backends.base import StepInputs
from lepton_ai.backends.reference.backend import ReferenceBackend
from lepton_ai.backends.reference.executable import ReferenceExecutable
from lepton_ai.backends.reference.ops import SUPPORTED
from lepton_ai.config import Limits, Policy
from lepton_ai.errors import InvalidRequest, WeightMismatch
from lepton_ai.graph.attrs import AttentionAttrs, kv_groups
from lepton_ai.graph.graph import Graph
from lepton_ai.graph.ops import OPS
from lepton_ai.graph.passes.precision import kv_specs
from lepton_ai.models.base import Head
from lepton_ai.models.decoder import DecoderModel
from lepton_ai.weights.formats import WeightType

LIMITS = Limits(max_tokens=64, max_rows=64, max_seqs=4)
TOKENS = [int(i) for i in np.random.default_rng(1).integers(0, 50, 21)]
BLOCKS = [5, 1, 3]
Floats = npt.NDArray[np.float32]


def compiled(
    model: DecoderModel,
    store: MemoryStore,
    policy: Policy = Policy.EXACT,
    *,
    head: Head = "logits",
    taps: Sequence[str] = (),
) -> ReferenceExecutable:
    return ReferenceBackend().compile(model.build(head=head), store, LIMITS, policy=policy, taps=taps)


def run(executable: ReferenceExecutable, *steps: StepInputs) -> list[dict[str, Floats]]:
    specs = kv_specs(executable.plan.graph)
    cache = ReferenceBackend().allocate_kv(specs, [8] * len(kv_groups(specs)))
    return [executable.run(inputs, cache).result().tensors for inputs in steps]


def quantised_store(store: MemoryStore, weight_type: WeightType) -> MemoryStore:
    """The store with the linear weights replaced by random blocks of a type."""
    tensors = dict(store.tensors)
    for index, (name, tensor) in enumerate(store.tensors.items()):
        if len(tensor.shape) == 2:
            tensors[name] = random_tensor(name, tensor.shape, weight_type, seed=index)
    return MemoryStore(tensors)


def test_every_op_of_the_vocabulary_runs() -> None:
    assert frozenset(OPS) == SUPPORTED


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_parity_with_an_independent_forward(architecture: str, tied: bool) -> None:
    model, store = tiny_model(architecture, tied=tied)
    weights = {n: t.data.view("<f4").reshape(t.shape).astype(np.float64) for n, t in store.tensors.items()}
    expected = llama_f64(
        weights, TOKENS, num_layers=2, num_heads=4, num_kv_heads=2, eps=1e-5, theta=1e4,
        interleaved=architecture == "llama", tied=tied,
    )  # fmt: skip
    (got,) = run(compiled(model, store, taps=list(expected)), step([(0, TOKENS, BLOCKS)]))
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=2e-5, atol=2e-5, err_msg=f"first to differ: {name}")


@pytest.mark.parametrize("logit_rows", [None, [20], [3, 17, 4]])
@pytest.mark.parametrize("policy", list(Policy))
def test_fusion_changes_no_bit(policy: Policy, logit_rows: list[int] | None) -> None:
    model, store = tiny_model("qwen2", {"attention.key_length": 32})
    store = quantised_store(store, WeightType.Q4_1)
    inputs = step([(0, TOKENS, BLOCKS)], logit_rows=logit_rows)
    fused, separate = compiled(model, store, policy), compiled(model, store, policy, taps=list(tap_names(model)))
    assert len(fused.plan.graph.nodes) < len(separate.plan.graph.nodes)
    assert np.array_equal(run(fused, inputs)[0]["logits"], run(separate, inputs)[0]["logits"])


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("sizes", [[21], [1] * 21, [7, 7, 7], [16, 5], [15, 2, 4]])
def test_the_cut_of_a_prompt_does_not_matter(policy: Policy, sizes: list[int]) -> None:
    model, store = tiny_model()
    executable = compiled(model, store, policy)
    starts = np.cumsum([0, *sizes]).tolist()
    steps = [step([(a, TOKENS[a:b], BLOCKS)]) for a, b in pairwise(starts)]
    got = np.concatenate([t["logits"] for t in run(executable, *steps)])
    (whole,) = run(executable, step([(0, TOKENS, BLOCKS)]))
    # A sum that NumPy orders otherwise may move an 8-bit code by one.
    tolerance = 1e-5 if policy is not Policy.FAST else 0.05
    np.testing.assert_allclose(got, whole["logits"], rtol=tolerance, atol=tolerance)


def test_sequences_of_a_ragged_step_do_not_see_each_other() -> None:
    model, store = tiny_model()
    executable = compiled(model, store)
    first, second = TOKENS[:9], TOKENS[9:]
    steps = [
        step([(0, first[:6], [2]), (0, second[:11], [7])]),
        step([(11, second[11:], [7]), (6, first[6:], [2])]),
    ]
    tensors = run(executable, *steps)
    (alone,) = run(executable, step([(0, first, [0])]))
    got = np.concatenate([tensors[0]["logits"][:6], tensors[1]["logits"][1:]])
    np.testing.assert_allclose(got, alone["logits"], rtol=1e-5, atol=1e-5)


def test_only_wanted_rows_get_logits() -> None:
    model, store = tiny_model()
    executable = compiled(model, store)
    (everything,) = run(executable, step([(0, TOKENS, BLOCKS)]))
    (some,) = run(executable, step([(0, TOKENS, BLOCKS)], logit_rows=[20, 3]))
    np.testing.assert_allclose(some["logits"], everything["logits"][[20, 3]], rtol=1e-5, atol=1e-6)


def test_scoring_equals_log_softmax_of_logits() -> None:
    model, store = tiny_model()
    targets = [*TOKENS[1:], 0]
    (scored,) = run(compiled(model, store, head="logprobs"), step([(0, TOKENS, BLOCKS)], targets=targets))
    (plain,) = run(compiled(model, store), step([(0, TOKENS, BLOCKS)]))
    logits = plain["logits"].astype(np.float64)
    expected = logits[np.arange(21), targets] - np.log(np.exp(logits).sum(axis=1))
    np.testing.assert_allclose(scored["logprobs"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("policy", [Policy.AUTO, Policy.FAST])
def test_quantised_activations_stay_close(policy: Policy) -> None:
    model, store = tiny_model("qwen2", {"attention.key_length": 32})
    if policy is Policy.AUTO:
        store = narrowed(store)
    inputs = step([(0, TOKENS, BLOCKS)])
    (exact,), (quantised,) = (run(compiled(model, store, p), inputs) for p in (Policy.EXACT, policy))
    error = (quantised["logits"] - exact["logits"]).std()
    assert 0 < error < 0.05 * exact["logits"].std()


def narrowed(store: MemoryStore) -> MemoryStore:
    """Matrices re-stored as Q8_0."""
    tensors = dict(store.tensors)
    for name, tensor in store.tensors.items():
        if len(tensor.shape) == 2:
            raw = quantize(tensor.data.view("<f4").reshape(tensor.shape), WeightType.Q8_0)
            tensors[name] = replace(tensor, type=WeightType.Q8_0, stored=np.frombuffer(raw, np.uint8))
    return MemoryStore(tensors)


def test_fast_narrows_a_tied_table_for_both_of_its_readers() -> None:
    model, store = tiny_model(tied=True)
    (exact,) = run(compiled(model, store, taps=["token_embd"]), step([(0, TOKENS, BLOCKS)]))
    (fast,) = run(compiled(model, store, Policy.FAST, taps=["token_embd"]), step([(0, TOKENS, BLOCKS)]))
    error = np.abs(fast["token_embd"] - exact["token_embd"]).max()
    assert 0 < error < 0.02


def windowed(graph: Graph, window: int, layers: Sequence[int] = (0, 1)) -> Graph:
    """The graph with a window set in some layers."""
    nodes = list(graph.nodes)
    for index, node in enumerate(nodes):
        if isinstance(node.attrs, AttentionAttrs) and node.attrs.layer in layers:
            spec = replace(node.attrs.kv, window=window)
            nodes[index] = replace(node, attrs=replace(node.attrs, kv=spec))
    return Graph(graph.inputs, tuple(nodes), graph.outputs)


def test_a_window_hides_older_positions() -> None:
    model, store = tiny_model("llama", {"block_count": 1})
    backend = ReferenceBackend()
    executables = [
        backend.compile(g, store, LIMITS, policy=Policy.EXACT)
        for g in (model.build(head="logits"), windowed(model.build(head="logits"), 4))
    ]
    changed = [(TOKENS[0] + 1) % 50, *TOKENS[1:]]
    for executable, is_windowed in zip(executables, (False, True), strict=True):
        (a,), (b,) = (run(executable, step([(0, ids, BLOCKS)])) for ids in (TOKENS, changed))
        differs = np.abs(a["logits"] - b["logits"]).max(axis=1) > 1e-6
        assert differs.tolist() == [t < 4 or not is_windowed for t in range(21)]


def test_blocks_out_of_the_window_may_hold_anything() -> None:
    model, store = tiny_model()
    executable = ReferenceBackend().compile(
        windowed(model.build(head="logits"), 20), store, LIMITS, policy=Policy.EXACT
    )
    rows = []
    for garbage in (None, np.nan, np.inf):
        cache = ReferenceBackend().allocate_kv(kv_specs(executable.plan.graph), [4])
        executable.run(step([(0, [*TOKENS, *TOKENS][:38], [3, 1, 2])]), cache)
        if garbage is not None:
            for heads in (*cache._keys, *cache._values):
                for array in heads.arrays:
                    array[3] = garbage  # positions 0 to 15; that after 38 sees those above 18
        inputs = step([(38, [TOKENS[0], TOKENS[1]], [3, 1, 2])])
        rows.append(executable.run(inputs, cache).result().tensors["logits"])
    assert np.array_equal(rows[0], rows[1]) and np.array_equal(rows[0], rows[2])


def test_layers_with_other_specs_use_their_own_tables() -> None:
    model, store = tiny_model()
    mixed = windowed(model.build(head="logits"), 100, layers=[0])
    executable = ReferenceBackend().compile(mixed, store, LIMITS, policy=Policy.EXACT)
    inputs = step([(0, TOKENS[:20], [4, 6])], num_groups=2)
    swapped = step([(0, TOKENS[:20], [6, 4])])
    inputs = replace(inputs, kv_groups=[inputs.kv_groups[0], swapped.kv_groups[0]])
    (got,) = run(executable, inputs)
    (expected,) = run(compiled(model, store), step([(0, TOKENS[:20], [4, 6])]))
    np.testing.assert_allclose(got["logits"], expected["logits"], rtol=1e-6, atol=1e-6)


def test_cache_is_rounded_to_its_dtype() -> None:
    model, store = tiny_model()
    executable = compiled(model, store, Policy.AUTO)  # F32 matrices: auto differs from exact by the cache alone
    cache = ReferenceBackend().allocate_kv(kv_specs(executable.plan.graph), [2])
    assert cache.num_bytes == 2 * (2 * 16) * 2 * (2 * 16) * 2  # layers, tokens, k and v, K*D, f16
    exact = compiled(model, store)
    (a,), (b,) = run(executable, step([(0, TOKENS, BLOCKS)])), run(exact, step([(0, TOKENS, BLOCKS)]))
    assert 0 < np.abs(a["logits"] - b["logits"]).max() < 0.02


def test_a_slice_runs_from_given_tensors() -> None:
    model, store = tiny_model()
    graph = model.build(head="logits")
    taps = ["blk.0.ffn_residual", "blk.1.ffn_norm"]
    (whole,) = run(compiled(model, store, taps=taps), step([(0, TOKENS, BLOCKS)]))
    part = ReferenceBackend().compile(graph.slice(taps[:1], taps[1:]), store, LIMITS, policy=Policy.EXACT)
    cache = ReferenceBackend().allocate_kv(model.kv_specs(), [8])
    inputs = replace(step([(0, TOKENS, BLOCKS)]), tensors={taps[0]: whole[taps[0]]})
    got = part.run(inputs, cache).result().tensors
    assert np.array_equal(got[taps[1]], whole[taps[1]])
    with pytest.raises(InvalidRequest, match=r"blk\.0\.ffn_residual"):
        part.run(step([(0, TOKENS, BLOCKS)]), cache)


def test_set_weight_replaces_values_everywhere() -> None:
    (model, store), (_, other) = tiny_model(), tiny_model(seed=1)
    executable = compiled(model, store)
    for weight in model.build(head="logits").weights():
        executable.set_weight(weight.name, other.get(weight.name).data.view("<f4").reshape(weight.shape))
    inputs = step([(0, TOKENS, BLOCKS)])
    (got,), (expected,) = run(executable, inputs), run(compiled(model, other), inputs)
    assert np.array_equal(got["logits"], expected["logits"])


def test_set_weight_refuses_unknown_names_and_shapes() -> None:
    executable = compiled(*tiny_model())
    with pytest.raises(InvalidRequest, match=r"no weight called 'blk\.0\.attn_q'"):
        executable.set_weight("blk.0.attn_q", np.zeros((64, 64), np.float32))
    with pytest.raises(InvalidRequest, match=r"expected shape \(64, 64\) for blk\.0\.attn_q\.weight, got \(64, 32\)"):
        executable.set_weight("blk.0.attn_q.weight", np.zeros((64, 32), np.float32))


def test_compile_refuses_missing_and_mis_shaped_weights() -> None:
    model, store = tiny_model()
    wrong = {**store.tensors, "output_norm.weight": replace(store.get("output_norm.weight"), shape=(32,))}
    with pytest.raises(WeightMismatch, match=r"output_norm\.weight has shape \(32,\), expected \(64,\)"):
        compiled(model, MemoryStore(wrong))
    del wrong["output_norm.weight"]
    with pytest.raises(WeightMismatch, match=r"output_norm\.weight"):
        compiled(model, MemoryStore(wrong))
