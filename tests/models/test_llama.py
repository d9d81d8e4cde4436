from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from tests.models.tiny import MemoryStore, MetadataValue, metadata, random_tensor, stored, tap_names, tiny_model

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.graph.attrs import AttentionAttrs, KVSpec, RopeAttrs, RopeTableAttrs
from lepton_ai.models.decoder import DecoderModel
from lepton_ai.models.family import as_decoder
from lepton_ai.models.llama import LlamaConfig, LlamaModel
from lepton_ai.models.registry import load_model
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.store import check_strict


def config_of(architecture: str) -> LlamaConfig:
    model, _ = tiny_model(architecture)
    assert isinstance(model, LlamaModel)
    return model.config


def test_config_of_a_llama_file() -> None:
    config = config_of("llama")
    assert (config.architecture, config.vocab_size, config.num_layers, config.head_dim) == ("llama", 50, 2, 16)
    assert (config.is_rope_interleaved, config.has_qkv_bias, config.is_head_tied) == (True, False, False)
    assert config.kv(1) == KVSpec(2, 16)


def test_config_of_a_qwen2_file() -> None:
    config = config_of("qwen2")
    assert (config.is_rope_interleaved, config.has_qkv_bias) == (False, True)


def test_kv_heads_default_to_heads() -> None:
    values = metadata()
    del values["llama.attention.head_count_kv"]
    _, store = tiny_model()
    assert as_decoder(load_model(values, store)).kv_specs() == (KVSpec(4, 16),) * 2


def test_explicit_head_length_sizes_the_projections() -> None:
    model, store = tiny_model("llama", {"attention.key_length": 32, "attention.value_length": 32})
    assert store.get("blk.0.attn_q.weight").shape == (128, 64)
    assert store.get("blk.0.attn_output.weight").shape == (64, 128)
    assert model.kv_specs()[0].head_dim == 32


def test_tied_head_reads_the_embedding_table() -> None:
    model, store = tiny_model(tied=True)
    graph = model.build(head="logits")
    assert graph.nodes[-1].weights == graph.nodes[0].weights
    assert "output.weight" not in store.names()


def test_a_head_beside_the_table_that_it_is_tied_to_is_ignored() -> None:
    _, store = tiny_model()
    model = as_decoder(load_model(metadata("llama", {"is_head_tied": True}), store))
    graph = model.build(head="logits")
    assert graph.nodes[-1].weights == graph.nodes[0].weights
    check_strict(store, graph.weights(), model.ignorable_names())


def test_weights_of_a_qwen2_layer() -> None:
    names = {w.name for w in tiny_model("qwen2")[0].build(head="logits").weights() if w.name.startswith("blk.1.")}
    parts = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
    assert names == {f"blk.1.{p}.weight" for p in parts} | {f"blk.1.attn_{s}.bias" for s in "qkv"}


def test_tensors_can_be_tapped_by_name() -> None:
    names = set(tap_names(tiny_model()[0]))
    assert {"token_embd", "blk.1.attn_norm", "blk.1.attn_q_rope", "blk.1.attn", "blk.1.ffn_act", "logits"} <= names


def test_final_norm_sees_only_wanted_rows() -> None:
    graph = tiny_model()[0].build(head="logits")
    assert [n.op for n in graph.nodes[-3:]] == ["gather_rows", "rms_norm", "linear"]
    assert str(graph.tensor("output_norm").shape[0]) == "R"


def test_heads_differ_in_inputs_and_output() -> None:
    model, _ = tiny_model()
    assert [t.name for t in model.build(head="logits").inputs] == ["token_ids", "positions", "logit_rows"]
    scoring = model.build(head="logprobs")
    assert [t.name for t in scoring.inputs][-1] == "targets"
    assert [t.name for t in scoring.outputs] == ["logprobs"]


def test_attention_and_rope_attributes() -> None:
    graph = tiny_model("qwen2")[0].build(head="logits")
    attention = [n.attrs for n in graph.nodes if isinstance(n.attrs, AttentionAttrs)]
    assert [a.layer for a in attention] == [0, 1]
    assert attention[0].scale == 0.25
    assert {n.attrs for n in graph.nodes if isinstance(n.attrs, RopeAttrs)} == {RopeAttrs(16, False)}


def frequencies(model: DecoderModel) -> npt.NDArray[np.float32]:
    (table,) = [n.attrs for n in model.build(head="logits").nodes if isinstance(n.attrs, RopeTableAttrs)]
    return np.array(table.inverse_frequencies, np.float32)


def test_inverse_frequencies_are_those_of_pytorch() -> None:
    # 1.0 / (1e5 ** (torch.arange(0, 64, 2).float() / 64)), entries 1, 2, 3, 17 and 31.
    model, _ = tiny_model("llama", {"rope.freq_base": 1e5, "attention.key_length": 64})
    bits = frequencies(model)[[1, 2, 3, 17, 31]].view(np.int32)
    assert bits.tolist() == [1060283654, 1056527311, 1051589887, 990944987, 930114413]


def test_rope_factors_divide_the_frequencies() -> None:
    plain, store = tiny_model()
    factors = np.linspace(1, 8, 8, dtype=np.float32)
    with_factors = MemoryStore({**store.tensors, "rope_freqs.weight": stored("rope_freqs.weight", factors)})
    model = as_decoder(load_model(metadata(), with_factors))
    assert frequencies(model).tolist() == (frequencies(plain) / factors).tolist()
    assert model.ignorable_names() == ("rope_freqs.weight",)


@pytest.mark.parametrize("factors", [np.ones(7), np.zeros(8), np.full(8, np.nan)])
def test_bad_rope_factors_are_refused(factors: npt.NDArray[np.float64]) -> None:
    _, store = tiny_model()
    store.tensors["rope_freqs.weight"] = stored("rope_freqs.weight", factors.astype(np.float32))
    with pytest.raises(InvalidModel, match=r"rope_freqs\.weight"):
        load_model(metadata(), store)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("block_count", 0),
        ("block_count", 2**31),
        ("context_length", -1),
        ("embedding_length", 1 << 40),
        ("embedding_length", 63),
        ("feed_forward_length", 0),
        ("attention.head_count", 0),
        ("attention.head_count_kv", 3),
        ("attention.head_count_kv", 0),
        ("attention.key_length", 15),
        ("attention.key_length", 1 << 20),
        ("attention.value_length", 8),
        ("attention.layer_norm_rms_epsilon", float("nan")),
        ("attention.layer_norm_rms_epsilon", -1e-5),
        ("rope.freq_base", float("inf")),
        ("rope.freq_base", 0.0),
        ("vocab_size", 49),
        ("block_count", "two"),
    ],
)
def test_a_bad_hyperparameter_is_named(key: str, value: int | float | str) -> None:
    _, store = tiny_model()
    # A key that has no effect of its own is blamed on the one that it contradicts.
    with pytest.raises(InvalidModel, match=r"llama\.(attention\.head_count|" + key.replace(".", r"\.") + ").*expected"):
        load_model(metadata("llama", {key: value}), store)


@pytest.mark.parametrize("key", ["block_count", "context_length", "embedding_length", "attention.head_count"])
def test_a_missing_hyperparameter_is_named(key: str) -> None:
    _, store = tiny_model()
    values = metadata()
    del values[f"llama.{key}"]
    with pytest.raises(InvalidModel, match=rf"llama\.{key}"):
        load_model(values, store)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope.scaling.type", "dynamic"),
        ("rope.scaling.factor", 4.0),
        ("rope.dimension_count", 8),
        ("expert_count", 8),
        ("logit_scale", 0.5),
    ],
)
def test_an_unsupported_option_is_named(key: str, value: int | float | str) -> None:
    _, store = tiny_model()
    with pytest.raises(UnsupportedModel, match=rf"llama\.{key}"):
        load_model(metadata("llama", {key: value}), store)


def test_options_that_are_off_are_accepted() -> None:
    _, store = tiny_model()
    off: dict[str, MetadataValue] = {
        "rope.scaling.type": "none",
        "rope.scaling.factor": 1.0,
        "expert_count": 0,
        "rope.dimension_count": 16,
    }
    assert load_model(metadata("llama", off), store).config.num_layers == 2


def test_a_window_holds_for_every_layer() -> None:
    model, _ = tiny_model("llama", {"attention.sliding_window": 32})
    assert model.kv_specs() == (KVSpec(2, 16, window=32),) * 2


def test_embedding_table_must_be_a_matrix() -> None:
    _, store = tiny_model()
    store.tensors["token_embd.weight"] = random_tensor("token_embd.weight", (64,), WeightType.F32, 0)
    with pytest.raises(InvalidModel, match=r"token_embd\.weight"):
        load_model(metadata(), store)
