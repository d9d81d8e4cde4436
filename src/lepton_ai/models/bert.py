"""BERT (Devlin et al. 2018): how its checkpoints look. The forward is that of ``encoder.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lepton_ai.errors import InvalidModel
from lepton_ai.models.encoder import EncoderModel
from lepton_ai.models.encoder_config import Likelihood, read_encoder_config
from lepton_ai.models.hf import HFLayout
from lepton_ai.models.hf_config import HFConfig
from lepton_ai.models.metadata import Metadata
from lepton_ai.weights.renamed import Rename, one_to_one
from lepton_ai.weights.store import WeightStore

ARCHITECTURES = ("bert",)
MODEL_TYPES = ("bert",)


def parse(metadata: Metadata, store: WeightStore) -> EncoderModel:
    """The model of a ``bert`` checkpoint. Raises InvalidModel or UnsupportedModel, naming the key."""
    return EncoderModel(read_encoder_config(metadata, store))


GGUF_RENAMES: tuple[Rename, ...] = ()

_ACTIVATIONS: Final = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
_LIKELIHOODS: Final = {
    "regression": Likelihood.NONE,
    "single_label_classification": Likelihood.SOFTMAX,
    "multi_label_classification": Likelihood.SIGMOID,
}


def encoder_keys(config: HFConfig) -> dict[str, object]:
    """The keys that checkpoints of BERT and of its kin have in common, as ``read_encoder_config`` reads them."""
    activation = config.take_str("hidden_act", "gelu")
    config.require("hidden_act", *_ACTIVATIONS)
    config.require("is_decoder", False)
    config.require("add_cross_attention", False)
    return {
        "context_length": config.take_int("max_position_embeddings", 512),
        "block_count": config.take_int("num_hidden_layers"),
        "embedding_length": config.take_int("hidden_size"),
        "feed_forward_length": config.take_int("intermediate_size"),
        "attention.head_count": config.take_int("num_attention_heads"),
        "attention.layer_norm_epsilon": config.take_float("layer_norm_eps", 1e-12),
        "vocab_size": config.take_int("vocab_size"),
        "activation": _ACTIVATIONS[activation],
        **_classifier_keys(config),
    }


def _classifier_keys(config: HFConfig) -> Mapping[str, object]:
    keys: dict[str, object] = {}
    names = config.take_strings("architectures") or ()
    keys["classifier.is_per_token"] = any(name.endswith("ForTokenClassification") for name in names)
    config.require("problem_type", *_LIKELIHOODS)
    if (problem := config.take("problem_type")) is not None:
        keys["classifier.likelihood"] = _LIKELIHOODS[str(problem)].value
    if (labels := config.take("id2label")) is not None:
        if not isinstance(labels, dict) or set(labels) != set(map(str, range(len(labels)))):
            raise InvalidModel(f"config.json: id2label: expected a label by number, got {labels!r:.80}", param="model")
        keys["classifier.output_labels"] = [labels[str(i)] for i in range(len(labels))]
    return keys


def _translate(config: HFConfig) -> dict[str, object]:
    """``config.json`` in the keys that ``parse`` reads."""
    config.require("position_embedding_type", "absolute")
    # The number of rows says it; those of the pooler are of the programs that made the multilingual checkpoints.
    config.ignore("type_vocab_size", "directionality", "pooler_fc_size", "pooler_num_attention_heads")
    config.ignore("pooler_num_fc_layers", "pooler_size_per_head", "pooler_type")
    return {"general.architecture": "bert", **encoder_keys(config)}


ENCODER_NAMES: Final = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.LayerNorm": "token_embd_norm",
    "encoder.layer.{}.intermediate.dense": "blk.{}.ffn_up",
    "encoder.layer.{}.output.dense": "blk.{}.ffn_down",
    "encoder.layer.{}.output.LayerNorm": "blk.{}.layer_output_norm",
    "pooler.dense": "cls",
}
"""Tensors that are called the same in BERT and in its kin."""

HF = HFLayout(
    translate=_translate,
    renames=one_to_one(
        {
            **ENCODER_NAMES,
            "embeddings.token_type_embeddings": "token_types",
            "encoder.layer.{}.attention.self.query": "blk.{}.attn_q",
            "encoder.layer.{}.attention.self.key": "blk.{}.attn_k",
            "encoder.layer.{}.attention.self.value": "blk.{}.attn_v",
            "encoder.layer.{}.attention.output.dense": "blk.{}.attn_output",
            "encoder.layer.{}.attention.output.LayerNorm": "blk.{}.attn_output_norm",
            "classifier": "cls.output",
        }
    ),
    # A buffer, and the heads of pre-training.
    ignored=(
        "embeddings.position_ids",
        "cls.predictions",
        "cls.predictions.decoder",
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.seq_relationship",
    ),
    prefixes=("bert.",),
)
