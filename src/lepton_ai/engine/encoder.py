"""An encoder that is ready to run: batches of whole sequences, packed end to end, never padded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lepton_ai.backends.base import BLOCK_SIZE, Backend, Executable, Float32Array, Int32Array, KVGroupInputs, StepInputs
from lepton_ai.config import Limits
from lepton_ai.engine.kv.group import num_blocks_for
from lepton_ai.engine.load_options import LoadOptions
from lepton_ai.engine.turns import Turns
from lepton_ai.errors import InvalidRequest
from lepton_ai.models.encoder import EncoderHead, EncoderModel
from lepton_ai.models.encoder_config import Pooling
from lepton_ai.phases import phase
from lepton_ai.weights.checkpoint import Checkpoint
from lepton_ai.weights.folder import CheckpointFolder
from lepton_ai.weights.sentence_config import read_sentence_config
from lepton_ai.weights.store import WeightStore, check_strict


@dataclass(frozen=True, slots=True)
class EncoderInput:
    """One sequence: ids ``[n]``, and of each token which text it belongs to, if there is more than one."""

    ids: Int32Array
    token_type_ids: Int32Array | None = None


@dataclass(frozen=True, slots=True)
class SentenceDefaults:
    """What the checkpoint says of embedding: how to pool (None: nothing), and the longest text it was trained on."""

    pooling: Pooling | None
    max_length: int


class Encoder:
    """Runs sequences through a model, from any number of threads. A step is one batch; callers take turns.

    What a sequence gives does not depend on those that run beside it.
    """

    def __init__(
        self,
        model: EncoderModel,
        store: WeightStore,
        backend: Backend,
        options: LoadOptions,
        defaults: SentenceDefaults,
    ) -> None:
        self.model = model
        self.defaults = defaults
        self.limits: Limits = options.encoder_limits(_max_model_len(model, options))
        self._store = store
        self._backend = backend
        self._options = options
        self._turns = Turns()
        self._executables: dict[tuple[EncoderHead, ...], Executable] = {}
        self._kv_dtype = backend.encoder_kv_dtype(options.policy)
        spec = replace(model.kv_spec, dtype=self._kv_dtype)
        # A sequence fills its last block in part.
        self._cache = backend.allocate_kv([spec], [self.limits.max_tokens // BLOCK_SIZE + self.limits.max_seqs])
        self._is_closed = False

    @property
    def kv_bytes(self) -> int:
        """Bytes of the cache that the layers take turns with."""
        return self._cache.num_bytes

    def prepare(self, heads: tuple[EncoderHead, ...]) -> Executable:
        """The model with these heads, compiled when it is first asked for. Raises WeightMismatch."""
        if heads not in self._executables:
            with phase("graph", self._options.on_phase):
                graph = self.model.build(heads=heads)
                check_strict(self._store, graph.weights(), self.model.ignorable_names())
            made = self._backend.compile(
                graph, self._store, self.limits, policy=self._options.policy, kv_dtype=self._kv_dtype
            )
            self._executables[heads] = made
        return self._executables[heads]

    def run(self, heads: tuple[EncoderHead, ...], inputs: Sequence[EncoderInput]) -> list[tuple[Float32Array, ...]]:
        """For each input, an array for each of ``heads``: ``[n, ...]`` of a head of tokens, else ``[...]``.

        The arrays are the caller's to keep. Inputs must fit ``limits.max_model_len``.
        """
        results: list[tuple[Float32Array, ...]] = [()] * len(inputs)
        for batch in pack_batches([len(i.ids) for i in inputs], self.limits.max_tokens, self.limits.max_seqs):
            step = _step_inputs([inputs[index] for index in batch])
            with self._turns.turn():
                if self._is_closed:
                    raise InvalidRequest("this LLM is closed")
                tensors = self.prepare(heads).run(step, self._cache).result().tensors
                outputs = [tensors[self.model.output_name(head)].copy() for head in heads]
            for row, index in enumerate(batch):
                tokens = slice(step.query_offsets[row], step.query_offsets[row + 1])
                results[index] = tuple(
                    output[tokens if self.model.is_per_token(head) else row]
                    for head, output in zip(heads, outputs, strict=True)
                )
        return results

    def close(self) -> None:
        """Wait for the step under way; afterwards each use raises InvalidRequest."""
        with self._turns.turn():
            self._is_closed = True


def make_encoder(
    model: EncoderModel, store: WeightStore, backend: Backend, options: LoadOptions, checkpoint: Checkpoint
) -> Encoder:
    """Compile ``model`` with the head that callers are likely to ask for first.

    Raises WeightMismatch, InvalidModel or UnsupportedModel for a checkpoint, InvalidRequest for ``options``.
    """
    _check_keeps_no_kv(options)
    defaults = sentence_defaults(model, checkpoint)
    encoder = Encoder(model, store, backend, options, defaults)
    encoder.prepare(usual_heads(model, defaults.pooling))
    return encoder


def usual_heads(model: EncoderModel, pooling: Pooling | None) -> tuple[EncoderHead, ...]:
    """What a checkpoint is for: its classifier, else its way of embedding, else the rows of tokens."""
    if model.config.classifier is not None:
        return ("class_logits",)
    return (pooling,) if pooling is not None else ("hidden_states",)


def pack_batches(lengths: Sequence[int], max_tokens: int, max_seqs: int) -> Iterator[list[int]]:
    """Indices of sequences that run together, the longest first, until a step is full. Ties keep their order."""
    batch: list[int] = []
    size = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (size + lengths[index] > max_tokens or len(batch) == max_seqs):
            yield batch
            batch, size = [], 0
        batch.append(index)
        size += lengths[index]
    if batch:
        yield batch


def sentence_defaults(model: EncoderModel, checkpoint: Checkpoint) -> SentenceDefaults:
    """What ``checkpoint`` says of embedding. Raises InvalidModel or UnsupportedModel for what it says elsewhere."""
    config = model.config
    declared = read_sentence_config(checkpoint.path) if isinstance(checkpoint, CheckpointFolder) else None
    if declared is None:
        return SentenceDefaults(config.pooling, config.context_length)
    pooling = Pooling(declared.pooling, declared.is_normalized)
    return SentenceDefaults(pooling, min(declared.max_length or config.context_length, config.context_length))


def _check_keeps_no_kv(options: LoadOptions) -> None:
    dtype = None if options.kv_dtype is None else options.kv_dtype.value
    for name, value in (("kv_dtype", dtype), ("kv_memory_bytes", options.kv_memory_bytes)):
        if value is not None:
            raise InvalidRequest(f"{name}: expected none for an encoder, which keeps no KV, got {value}", param=name)


def _max_model_len(model: EncoderModel, options: LoadOptions) -> int:
    longest, wanted = model.config.context_length, options.max_model_len
    if wanted is not None and wanted > longest:
        raise InvalidRequest(
            f"max_model_len: expected 1 to {longest}, the model's context, got {wanted}", param="max_model_len"
        )
    return wanted or longest


def _step_inputs(inputs: Sequence[EncoderInput]) -> StepInputs:
    """Sequences end to end; each has blocks of its own, one after another."""
    lengths = [len(i.ids) for i in inputs]
    num_blocks = [num_blocks_for(length) for length in lengths]
    tables = np.zeros((len(inputs), max(num_blocks)), np.int32)
    first = 0
    for row, count in enumerate(num_blocks):
        tables[row, :count] = np.arange(first, first + count)
        first += count
    types = None
    if any(i.token_type_ids is not None for i in inputs):
        types = np.concatenate([np.zeros_like(i.ids) if i.token_type_ids is None else i.token_type_ids for i in inputs])
    return StepInputs(
        token_ids=np.concatenate([i.ids for i in inputs]),
        positions=np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
        query_offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        kv_lengths=np.array(lengths, np.int32),
        kv_groups=(KVGroupInputs(tables),),
        logit_rows=np.empty(0, np.int32),
        token_type_ids=types,
    )
