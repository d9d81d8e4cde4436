"""``config.json``: typed reading, and the refusal of what nobody read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.models.tiny import MemoryStore

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.models.hf import HFLayout, translate
from lepton_ai.models.hf_config import HFConfig, rope_keys, window_keys


def test_values_of_their_types() -> None:
    config = HFConfig({"i": 3, "f": 2, "b": True, "s": "x", "o": {"k": 1}, "l": ["a"], "n": None})
    assert (config.take_int("i"), config.take_float("f"), config.take_bool("b"), config.take_str("s")) == (
        3,
        2,
        True,
        "x",
    )
    nested = config.take_object("o")
    assert nested is not None and nested.take_int("k") == 1
    assert config.take_strings("l") == ["a"]
    assert config.take_int("n", 7) == 7 and config.take_object("n") is None and config.take("absent") is None


@pytest.mark.parametrize(
    ("take", "expected"),
    [
        (lambda c: c.take_int("x"), "an integer"),
        (lambda c: c.take_float("x"), "a number"),
        (lambda c: c.take_str("x"), "a string"),
        (lambda c: c.take_object("x"), "an object"),
        (lambda c: c.take_strings("x"), "a list of strings"),
    ],
)
def test_a_value_of_another_type_is_refused(take: Callable[[HFConfig], object], expected: str) -> None:
    with pytest.raises(InvalidModel, match=f"x: expected {expected}, got True"):
        take(HFConfig({"x": True}))


def test_absent_keys_are_refused() -> None:
    with pytest.raises(InvalidModel, match="expected a key 'x', got none"):
        HFConfig({"x": None}).take_int("x")


def test_required_values() -> None:
    config = HFConfig({"act": "relu", "flag": 0})
    config.require("absent", "silu")
    with pytest.raises(UnsupportedModel, match="act: expected one of 'silu', got 'relu'"):
        config.require("act", "silu")
    with pytest.raises(UnsupportedModel, match="flag: expected one of False, got 0"):
        config.require("flag", False)


def test_unread_keys_are_refused_unless_harmless_or_allowed() -> None:
    config = HFConfig({"read": 1, "use_cache": True, "absent": None, "alibi": True, "mup": 2})
    config.take("read")
    with pytest.raises(UnsupportedModel, match=r"unknown keys.*'alibi', 'mup'; allow .* --allow-config-key"):
        config.refuse_unread()
    with pytest.raises(UnsupportedModel, match="'mup'"):
        config.refuse_unread({"alibi"})
    config.refuse_unread({"alibi", "mup"})


def test_a_translated_checkpoint_has_prefixed_keys() -> None:
    def read(config: HFConfig) -> dict[str, object]:
        return {"general.architecture": "llama", "block_count": config.take_int("layers"), "eps": 1e-5}

    layout = HFLayout(read, renames=())
    metadata, _ = translate(layout, {"layers": 2}, MemoryStore({}))
    assert metadata.get_str("general.architecture") == "llama"
    assert metadata.get_int("llama.block_count") == 2 and metadata.get_float("llama.eps") == 1e-5
    with pytest.raises(InvalidModel, match=r"expected what becomes llama.x, got nothing"):
        metadata.get_int("llama.x")
    with pytest.raises(InvalidModel, match=r"llama.eps: expected an integer, got 1e-05"):
        metadata.get_int("llama.eps")
    with pytest.raises(UnsupportedModel, match="'more'"):
        translate(layout, {"layers": 2, "more": 1}, MemoryStore({}))
    translate(layout, {"layers": 2, "more": 1}, MemoryStore({}), ["more"])


def test_rope_of_both_versions_of_the_library() -> None:
    scaling = {"factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 64}
    old = HFConfig({"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **scaling}})
    new = HFConfig({"rope_parameters": {"rope_theta": 5e5, "rope_type": "llama3", **scaling}})
    keys = rope_keys(old)
    assert keys == rope_keys(new)
    assert keys["rope.freq_base"] == 5e5 and keys["rope.scaling.original_context_length"] == 64
    assert rope_keys(HFConfig({"rope_scaling": {"type": "default"}})) == {"rope.freq_base": 10000.0}


def test_an_unknown_parameter_of_a_scaling_is_refused() -> None:
    config = HFConfig({"rope_scaling": {"type": "yarn", "factor": 2.0, "mscale": 1.0}, "max_position_embeddings": 64})
    with pytest.raises(UnsupportedModel, match=r"rope_scaling: unknown keys.*'mscale'"):
        rope_keys(config)
    with pytest.raises(UnsupportedModel, match="truncate: expected one of True"):
        rope_keys(HFConfig({"rope_scaling": {"type": "linear", "factor": 2.0, "truncate": False}}))


def test_windows() -> None:
    by_number = {"sliding_window": 8, "max_window_layers": 1, "num_hidden_layers": 3}
    assert window_keys(HFConfig(by_number), is_used=False) == {}
    keys = window_keys(HFConfig(by_number), is_used=True)
    assert keys == {"attention.sliding_window": 8, "attention.sliding_window_pattern": [False, True, True]}
    kinds = {**by_number, "layer_types": ["sliding_attention", "full_attention", "full_attention"]}
    assert window_keys(HFConfig(kinds), is_used=True)["attention.sliding_window_pattern"] == [True, False, False]
    with pytest.raises(UnsupportedModel, match=r"layer_types: expected .* got 'chunked_attention'"):
        window_keys(HFConfig({**kinds, "layer_types": ["chunked_attention"]}), is_used=True)
