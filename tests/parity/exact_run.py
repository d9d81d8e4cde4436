"""A checkpoint's folder run under the policy exact, as the comparisons with ``transformers`` need it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tests.models.tiny import step

from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.cpu.executable import CpuExecutable
from lepton_ai.config import Limits, Policy
from lepton_ai.engine.encoder import EncoderInput, make_encoder
from lepton_ai.engine.load_options import LoadOptions
from lepton_ai.graph.attrs import AttentionAttrs, kv_groups
from lepton_ai.graph.graph import Graph
from lepton_ai.graph.tensor import DType
from lepton_ai.models.base import Head
from lepton_ai.models.encoder import EncoderHead, EncoderModel
from lepton_ai.models.family import as_decoder
from lepton_ai.models.registry import read_model
from lepton_ai.weights.checkpoint import open_checkpoint
from lepton_ai.weights.packed import PackedCache
from lepton_ai.weights.store import WeightStore, check_strict

Float64Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int32]


class RescalingBackend(CpuBackend):
    """Multiplies the scale of every attention by ``factor``."""

    def __init__(self, factor: float, *, home: Path | None) -> None:
        super().__init__(CpuDevice(num_threads=2), cache=PackedCache(home) if home else None)
        self._factor = factor

    def compile(
        self,
        graph: Graph,
        weights: WeightStore,
        limits: Limits,
        *,
        policy: Policy,
        taps: Sequence[str] = (),
        kv_dtype: DType | None = None,
    ) -> CpuExecutable:
        """See ``Backend.compile``."""
        nodes = []
        for node in graph.nodes:
            if isinstance(node.attrs, AttentionAttrs):
                node = replace(node, attrs=replace(node.attrs, scale=node.attrs.scale * self._factor))
            nodes.append(node)
        rescaled = replace(graph, nodes=tuple(nodes))
        return super().compile(rescaled, weights, limits, policy=policy, taps=taps, kv_dtype=kv_dtype)


def run_exact(
    folder: Path,
    ids: Ids,
    *,
    chunks: Sequence[int],
    head: Head = "logits",
    attention_scale: float = 1.0,
    home: Path | None = None,
) -> Float64Array:
    """What a decoder's graph ends in, a row for each of ``ids``, which are cut into steps of ``chunks`` tokens.

    The scale of every attention is multiplied by ``attention_scale``. Packed weights are kept in ``home``, if given.
    """
    assert sum(chunks) == len(ids)
    blocks = list(range(-(-len(ids) // 16)))
    with open_checkpoint(folder) as checkpoint:
        read, store = read_model(checkpoint)
        model = as_decoder(read)
        graph = model.build(head=head)
        check_strict(store, graph.weights(), model.ignorable_names())
        backend = RescalingBackend(attention_scale, home=home)
        limits = Limits(max_tokens=len(ids), max_rows=len(ids), max_seqs=1, max_model_len=len(ids))
        executable = backend.compile(graph, store, limits, policy=Policy.EXACT)
        specs = model.kv_specs()
        cache = backend.allocate_kv(specs, [len(blocks)] * len(kv_groups(specs)))
        rows, start = [], 0
        for size in chunks:
            chunk = (start, ids[start : start + size].tolist(), blocks)
            inputs = step([chunk], num_groups=len(kv_groups(specs)))
            rows.append(executable.run(inputs, cache).result().tensors[head].astype(np.float64))
            start += size
    return np.concatenate(rows)


def encode_exact(
    folder: Path,
    ids: Ids,
    token_type_ids: Ids | None,
    *,
    head: EncoderHead,
    attention_scale: float = 1.0,
    home: Path | None = None,
) -> Float64Array:
    """What an encoder's ``head`` gives of ``ids``, in a batch with a sequence that must not matter."""
    with open_checkpoint(folder) as checkpoint:
        model, store = read_model(checkpoint)
        assert isinstance(model, EncoderModel)
        backend = RescalingBackend(attention_scale, home=home)
        encoder = make_encoder(model, store, backend, LoadOptions(policy=Policy.EXACT), checkpoint)
        ((got,), _) = encoder.run((head,), [EncoderInput(ids, token_type_ids), EncoderInput(ids[::-2].copy())])
    return got.astype(np.float64)
