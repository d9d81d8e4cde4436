"""MPNet (Song et al. 2020): how its checkpoints look. The forward is that of ``encoder.py``."""

from __future__ import annotations

from lepton_ai.models.bert import ENCODER_NAMES, encoder_keys
from lepton_ai.models.encoder import EncoderModel
from lepton_ai.models.encoder_config import read_encoder_config
from lepton_ai.models.hf import HFLayout
from lepton_ai.models.hf_config import HFConfig
from lepton_ai.models.metadata import Metadata
from lepton_ai.weights.renamed import Rename, one_to_one
from lepton_ai.weights.store import WeightStore

ARCHITECTURES = ("mpnet",)
MODEL_TYPES = ("mpnet",)

_FIRST_POSITION = 2  # the rows before it are those of padding


def parse(metadata: Metadata, store: WeightStore) -> EncoderModel:
    """The model of an ``mpnet`` checkpoint. Raises InvalidModel or UnsupportedModel, naming the key."""
    return EncoderModel(read_encoder_config(metadata, store))


def _translate(config: HFConfig) -> dict[str, object]:
    """``config.json`` in the keys that ``parse`` reads."""
    keys = encoder_keys(config)
    return {
        **keys,
        "general.architecture": "mpnet",
        "context_length": config.take_int("max_position_embeddings", 512) - _FIRST_POSITION,
        "first_position": _FIRST_POSITION,
        "attention.relative_buckets_count": config.take_int("relative_attention_num_buckets", 32),
    }


GGUF_RENAMES: tuple[Rename, ...] = ()

HF = HFLayout(
    translate=_translate,
    renames=one_to_one(
        {
            **ENCODER_NAMES,
            "encoder.relative_attention_bias": "attn_rel_b",
            "encoder.layer.{}.attention.attn.q": "blk.{}.attn_q",
            "encoder.layer.{}.attention.attn.k": "blk.{}.attn_k",
            "encoder.layer.{}.attention.attn.v": "blk.{}.attn_v",
            "encoder.layer.{}.attention.attn.o": "blk.{}.attn_output",
            "encoder.layer.{}.attention.LayerNorm": "blk.{}.attn_output_norm",
            # A classifier of sequences has a layer of its own in place of the pooler; one of tokens is one matrix.
            "classifier.dense": "cls",
            "classifier.out_proj": "cls.output",
            "classifier": "cls.output",
        }
    ),
    ignored=("embeddings.position_ids", "lm_head", "lm_head.dense", "lm_head.layer_norm", "lm_head.decoder"),
    prefixes=("mpnet.",),
)
