from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from tests.models.olmo2_f64 import olmo2_f64
from tests.models.tiny import MemoryStore, metadata, step, tiny_model

from lepton_ai.backends.reference.backend import ReferenceBackend
from lepton_ai.config import Limits, Policy
from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.graph.attrs import KVSpec
from lepton_ai.models.family import as_decoder
from lepton_ai.models.hf import translate
from lepton_ai.models.olmo2 import HF, Olmo2Config
from lepton_ai.models.registry import load_model

TOKENS = [int(i) for i in np.random.default_rng(1).integers(0, 50, 21)]
CONFIG: dict[str, object] = {
    "model_type": "olmo2",
    "vocab_size": 50,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6,
    "rope_theta": 5e5,
}


def config_of(changes: dict[str, object]) -> Olmo2Config:
    """The hyper-parameters of a folder whose ``config.json`` has some keys changed."""
    _, store = tiny_model("olmo2")
    translated, _ = translate(HF, {**CONFIG, **changes}, store)
    return cast(Olmo2Config, load_model(translated, store).config)


def test_parity_with_an_independent_forward() -> None:
    model, store = tiny_model("olmo2")
    weights = {n: t.data.view("<f4").reshape(t.shape).astype(np.float64) for n, t in store.tensors.items()}
    expected = olmo2_f64(weights, TOKENS, num_layers=2, head_dim=16, eps=1e-5, theta=1e4)
    limits = Limits(max_tokens=32, max_rows=32, max_seqs=1)
    backend = ReferenceBackend()
    executable = backend.compile(model.build(head="logits"), store, limits, policy=Policy.EXACT, taps=list(expected))
    inputs = step([(0, TOKENS, [1, 0])])
    got = executable.run(inputs, backend.allocate_kv(model.kv_specs(), [2])).result().tensors
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=2e-5, atol=2e-5, err_msg=f"first to differ: {name}")


def test_norms_of_queries_and_keys_are_as_wide_as_all_their_heads() -> None:
    model, store = tiny_model("olmo2")
    assert model.kv_specs() == (KVSpec(2, 16),) * 2
    shapes = {name: store.get(f"blk.1.{name}.weight").shape for name in ("attn_q_norm", "attn_k_norm", "post_ffw_norm")}
    assert shapes == {"attn_q_norm": (64,), "attn_k_norm": (32,), "post_ffw_norm": (64,)}
    assert not [name for name in store.names() if name.endswith((".attn_norm.weight", ".ffn_norm.weight"))]


def test_a_tied_head_reads_the_embedding_table() -> None:
    model, store = tiny_model("olmo2", tied=True)
    graph = model.build(head="logits")
    assert graph.nodes[-1].weights == graph.nodes[0].weights and "output.weight" not in store.names()
    beside = as_decoder(load_model(metadata("olmo2", {"is_head_tied": True}), tiny_model("olmo2")[1]))
    assert beside.ignorable_names() == ("output.weight",)


def test_config_of_a_folder() -> None:
    config = config_of({})
    assert (config.num_kv_heads, config.norm_eps, config.is_head_tied, config.context_length) == (4, 1e-6, False, 128)
    assert config_of({"num_key_value_heads": 2, "tie_word_embeddings": True}).kv == KVSpec(2, 16)
    linear = config_of({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}).rope
    assert linear.inverse_frequencies == tuple(f / 2 for f in config.rope.inverse_frequencies)


@pytest.mark.parametrize(
    ("key", "value"),
    [("hidden_act", "gelu"), ("attention_bias", True), ("clip_qkv", 8.0), ("sliding_window", 4096), ("head_dim", 32)],
)
def test_an_option_of_a_folder_that_changes_the_forward_is_named(key: str, value: object) -> None:
    with pytest.raises(UnsupportedModel, match=key):
        config_of({key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention.sliding_window", 4096),
        ("attention.clamp_kqv", 8.0),
        ("expert_count", 8),
        ("rope.dimension_count", 8),
        ("attention.key_length", 32),
        ("attention.value_length", 8),
    ],
)
def test_an_unsupported_option_is_named(key: str, value: int | float) -> None:
    _, store = tiny_model("olmo2")
    with pytest.raises(UnsupportedModel, match=rf"olmo2\.{key}"):
        load_model(metadata("olmo2", {key: value}), store)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention.head_count", 3),
        ("attention.head_count", 64),
        ("attention.head_count_kv", 3),
        ("attention.layer_norm_rms_epsilon", 0.0),
        ("block_count", 0),
        ("context_length", 0),
        ("embedding_length", 1 << 40),
        ("feed_forward_length", 0),
        ("vocab_size", 49),
    ],
)
def test_a_bad_hyperparameter_is_named(key: str, value: int | float) -> None:
    store: MemoryStore = tiny_model("olmo2")[1]
    with pytest.raises(InvalidModel, match=rf"olmo2\.{key}: expected"):
        load_model(metadata("olmo2", {key: value}), store)
