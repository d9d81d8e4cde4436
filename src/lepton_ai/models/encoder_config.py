"""The hyper-parameters of encoders, and what their heads are."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from lepton_ai.errors import InvalidModel, UnsupportedModel
from lepton_ai.graph.attrs import Activation, DistanceBuckets, PoolMode
from lepton_ai.models.base import ModelConfig
from lepton_ai.models.dimensions import (
    MAX_CONTEXT,
    MAX_FEED_FORWARD,
    MAX_LAYERS,
    read_hidden_and_heads,
    read_vocab_size,
)
from lepton_ai.models.metadata import Hyperparameters, Metadata
from lepton_ai.weights.store import WeightStore

TOKEN_TYPES = "token_types.weight"
POOLER: tuple[str, str] = ("cls.weight", "cls.bias")
CLASSIFIER: tuple[str, str] = ("cls.output.weight", "cls.output.bias")
"""Names of the heads' tensors: a layer over each sequence's first token, and the logits of classes."""


@dataclass(frozen=True, slots=True)
class Pooling:
    """How the tokens of a sequence become one vector. ``is_normalized``: it is scaled to length 1."""

    mode: PoolMode
    is_normalized: bool


class Likelihood(enum.Enum):
    """What turns logits of classes into probabilities: of one class among all, of each by itself; or none are."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Classifier:
    """A trained head: one logit for each of ``labels``, for each sequence or for each token."""

    labels: tuple[str, ...]
    is_per_token: bool
    likelihood: Likelihood


@dataclass(frozen=True, slots=True)
class EncoderConfig(ModelConfig):
    """Hyper-parameters of one checkpoint.

    ``num_token_types`` 0: it has none. ``first_position``: the row of the first position in its table. ``pooling``
    None: the checkpoint does not say how.
    """

    feed_forward_size: int
    num_heads: int
    norm_eps: float
    activation: Activation
    num_token_types: int
    first_position: int
    distance_buckets: DistanceBuckets | None
    has_pooler: bool
    classifier: Classifier | None
    pooling: Pooling | None


_MAX_CLASSES = 1 << 16
_MAX_TOKEN_TYPES = 1 << 10
_MAX_DISTANCE = 128  # of biases by distance; no checkpoint says another
_GGUF_POOL_MODES = {1: PoolMode.MEAN, 2: PoolMode.CLS, 3: PoolMode.LAST}


def read_encoder_config(metadata: Metadata, store: WeightStore) -> EncoderConfig:
    """The hyper-parameters of an encoder's checkpoint. Raises InvalidModel or UnsupportedModel, naming the key."""
    params = Hyperparameters(metadata, metadata.get_str("general.architecture"))
    params.refuse_options(("attention.causal",))
    hidden_size, num_heads = read_hidden_and_heads(params)
    return EncoderConfig(
        architecture=params.architecture,
        vocab_size=read_vocab_size(params, store),
        context_length=params.count("context_length", MAX_CONTEXT),
        num_layers=params.count("block_count", MAX_LAYERS),
        hidden_size=hidden_size,
        feed_forward_size=params.count("feed_forward_length", MAX_FEED_FORWARD),
        num_heads=num_heads,
        norm_eps=params.positive("attention.layer_norm_epsilon", 1.0),
        activation=params.choice("activation", Activation, default=Activation.GELU),
        num_token_types=_num_rows(store, TOKEN_TYPES, _MAX_TOKEN_TYPES) if TOKEN_TYPES in store.names() else 0,
        first_position=params.count("first_position", MAX_CONTEXT) if "first_position" in params else 0,
        distance_buckets=_distance_buckets(params),
        has_pooler=POOLER[0] in store.names(),
        classifier=_classifier(params, store),
        pooling=_pooling(params),
    )


def _num_rows(store: WeightStore, name: str, maximum: int) -> int:
    shape = store.get(name).shape
    if len(shape) != 2 or not 1 <= shape[0] <= maximum:
        raise InvalidModel(f"{name}: expected 1 to {maximum} rows, got shape {shape}", param="model")
    return shape[0]


def _distance_buckets(params: Hyperparameters) -> DistanceBuckets | None:
    name = "attention.relative_buckets_count"
    if name not in params:
        return None
    count = params.count(name, _MAX_DISTANCE)
    if count % 4:
        raise params.wrong(name, "a multiple of 4", count)
    return DistanceBuckets(count, _MAX_DISTANCE)


def _classifier(params: Hyperparameters, store: WeightStore) -> Classifier | None:
    """The classifier that the checkpoint has by its own word; each class has a row of the tensor and a label."""
    if CLASSIFIER[0] not in store.names():
        return None
    num_classes = _num_rows(store, CLASSIFIER[0], _MAX_CLASSES)
    labels = params.strings("classifier.output_labels") or [f"LABEL_{i}" for i in range(num_classes)]
    if len(labels) != num_classes:
        raise params.wrong("classifier.output_labels", f"one for each of {num_classes} classes", len(labels))
    usual = Likelihood.SIGMOID if num_classes == 1 else Likelihood.SOFTMAX
    likelihood = params.choice("classifier.likelihood", Likelihood, default=usual)
    return Classifier(tuple(labels), params.flag("classifier.is_per_token", default=False), likelihood)


def _pooling(params: Hyperparameters) -> Pooling | None:
    """What a GGUF file says. Its vectors are scaled to length 1, as the programs that use such files do."""
    if "pooling_type" not in params:
        return None
    kind = params.metadata.get_int(params.key("pooling_type"))
    if kind in (0, 4):  # none, and that of a classifier
        return None
    if kind not in _GGUF_POOL_MODES:
        known = ", ".join(map(str, _GGUF_POOL_MODES))
        raise UnsupportedModel(
            f"{params.key('pooling_type')}: expected one of 0, {known}, 4, got {kind}", param="model"
        )
    return Pooling(_GGUF_POOL_MODES[kind], is_normalized=True)
