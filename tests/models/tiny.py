"""A tiny random Llama-type checkpoint, and the step inputs to run it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from tests.weights.blocks import random_bytes

from lepton_ai.backends.base import KVGroupInputs, StepInputs
from lepton_ai.errors import InvalidModel, WeightMismatch
from lepton_ai.graph.tensor import Weight
from lepton_ai.models.decoder import DecoderModel
from lepton_ai.models.family import as_decoder
from lepton_ai.models.registry import load_model
from lepton_ai.weights.formats import WeightType
from lepton_ai.weights.store import StoredTensor

MetadataValue = int | float | str

TINY: Mapping[str, MetadataValue] = {
    "block_count": 2,
    "context_length": 128,
    "embedding_length": 64,
    "feed_forward_length": 96,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "rope.freq_base": 10000.0,
}
VOCAB_SIZE = 50
Changes = Mapping[str, MetadataValue]
NO_CHANGES: Changes = MappingProxyType({})


class FakeMetadata(dict[str, MetadataValue]):
    """Metadata as a GGUF file gives it: no type is converted into another."""

    def get_int(self, key: str, default: int | None = None) -> int:
        value = self._get(key, default)
        if not isinstance(value, int):
            raise InvalidModel(f"{key}: expected an integer, got {value!r}")
        return value

    def get_float(self, key: str, default: float | None = None) -> float:
        value = self._get(key, default)
        if not isinstance(value, float):
            raise InvalidModel(f"{key}: expected a number, got {value!r}")
        return value

    def get_str(self, key: str, default: str | None = None) -> str:
        value = self._get(key, default)
        if not isinstance(value, str):
            raise InvalidModel(f"{key}: expected a string, got {value!r}")
        return value

    def _get(self, key: str, default: MetadataValue | None) -> MetadataValue:
        if key not in self and default is None:
            raise InvalidModel(f"{key}: missing")
        return self[key] if key in self or default is None else default


class MemoryStore:
    """A weight store that holds its tensors in memory."""

    digest = "0" * 64

    def __init__(self, tensors: Mapping[str, StoredTensor]) -> None:
        self.tensors = dict(tensors)

    def names(self) -> Sequence[str]:
        return list(self.tensors)

    def get(self, name: str) -> StoredTensor:
        if name not in self.tensors:
            raise WeightMismatch(f"missing {name}")
        return self.tensors[name]

    def release(self, name: str) -> None:
        """Nothing is mapped."""


def stored(name: str, values: npt.NDArray[np.float32]) -> StoredTensor:
    """An F32 tensor."""
    data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)
    return StoredTensor(name, values.shape, WeightType.F32, data)


def random_tensor(name: str, shape: tuple[int, ...], weight_type: WeightType, seed: int) -> StoredTensor:
    """A tensor of random blocks: wild values, every code occurs."""
    raw = random_bytes(weight_type, shape, np.random.default_rng(seed))
    return StoredTensor(name, shape, weight_type, np.frombuffer(raw, np.uint8))


def metadata(architecture: str = "llama", changes: Changes = NO_CHANGES) -> FakeMetadata:
    """The tiny model's metadata, with some keys changed."""
    values = {**TINY, **changes}
    named = {f"{architecture}.{key}": value for key, value in values.items()}
    return FakeMetadata({"general.architecture": architecture, **named})


def tiny_model(
    architecture: str = "llama", changes: Changes = NO_CHANGES, *, seed: int = 0, tied: bool = False
) -> tuple[DecoderModel, MemoryStore]:
    """A model with its F32 weights: matrices of about unit gain, norms near 1."""
    hidden = metadata(architecture, changes).get_int(f"{architecture}.embedding_length")
    rng = np.random.default_rng(seed)
    table = stored("token_embd.weight", rng.standard_normal((VOCAB_SIZE, hidden)).astype(np.float32))
    tensors = {table.name: table}
    if not tied:
        tensors["output.weight"] = table
    model = as_decoder(load_model(metadata(architecture, changes), MemoryStore(tensors)))
    for weight in model.build(head="logits").weights():
        tensors[weight.name] = stored(weight.name, _random_values(weight, rng))
    return model, MemoryStore(tensors)


def _random_values(weight: Weight, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    if len(weight.shape) == 2:
        scale, centre = 1 / np.sqrt(weight.shape[1]), 0.0
    else:
        scale, centre = 0.1, 1.0 if weight.name.endswith("norm.weight") else 0.0
    return rng.normal(centre, scale, weight.shape).astype(np.float32)


def step(
    chunks: Sequence[tuple[int, Sequence[int], Sequence[int]]],
    *,
    num_groups: int = 1,
    logit_rows: Sequence[int] | None = None,
    targets: Sequence[int] | None = None,
) -> StepInputs:
    """One step. A chunk is (tokens before it, its token ids, its block table). Logits of every token unless said."""
    lengths = [len(ids) for _, ids, _ in chunks]
    table = np.zeros((len(chunks), max(len(blocks) for _, _, blocks in chunks)), np.int32)
    for row, (_, _, blocks) in enumerate(chunks):
        table[row, : len(blocks)] = blocks
    positions = [start + i for start, ids, _ in chunks for i in range(len(ids))]
    return StepInputs(
        token_ids=_ints([i for _, ids, _ in chunks for i in ids]),
        positions=_ints(positions),
        query_offsets=_ints([0, *np.cumsum(lengths).tolist()]),
        kv_lengths=_ints([start + len(ids) for start, ids, _ in chunks]),
        kv_groups=[KVGroupInputs(table)] * num_groups,
        logit_rows=_ints(range(sum(lengths)) if logit_rows is None else logit_rows),
        targets=None if targets is None else _ints(targets),
    )


def _ints(values: Sequence[int] | range) -> npt.NDArray[np.int32]:
    return np.array(values, np.int32)


def tap_names(model: DecoderModel) -> Iterator[str]:
    """Every tensor of the traced graph."""
    for node in model.build(head="logits").nodes:
        yield from (t.name for t in node.outputs)
