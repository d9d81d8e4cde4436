"""Weights in panels: from the packed cache if it has them, else packed on all cores."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lepton_ai.backends.base import Float32Array
from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.cpu.panel_memory import PanelMemory
from lepton_ai.errors import StorageError, UnsupportedModel
from lepton_ai.graph.graph import Graph
from lepton_ai.graph.passes.precision import narrowed_matrices
from lepton_ai.graph.tensor import DType
from lepton_ai.weights.formats import dequantize
from lepton_ai.weights.packed import PackedCache, PackedKey, PackedLayout, lay_out
from lepton_ai.weights.sources.progress import Progress
from lepton_ai.weights.store import WeightStore

ByteArray = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class PackedMatrix:
    """A ``(num_outputs, num_inputs)`` matrix in panels of ``kind`` (native/panels.h)."""

    data: ByteArray
    kind: int
    num_outputs: int
    num_inputs: int

    def native(self, bias: Float32Array | None = None) -> _native.Matrix:
        """The matrix as the encoder takes it. Whoever keeps the result keeps ``self`` and ``bias`` alive."""
        return _native.Matrix(
            data=self.data.ctypes.data,
            kind=self.kind,
            num_outputs=self.num_outputs,
            num_inputs=self.num_inputs,
            bias=0 if bias is None else bias.ctypes.data,
        )


@dataclass(frozen=True, slots=True)
class _Job:
    name: str
    shape: tuple[int, int]
    storage: str
    narrowing: str
    kind: int
    num_bytes: int


@dataclass(slots=True)
class PackedWeights:
    """What a graph reads: matrices in panels; in f32 as they are, vectors and the biases of attention.

    ``memory`` is that of the panels.
    """

    matrices: dict[str, PackedMatrix]
    vectors: dict[str, Float32Array]
    memory: PanelMemory


def pack_matrix(device: CpuDevice, values: Float32Array, read_as: DType) -> PackedMatrix:
    """f32 values ``(num_outputs, num_inputs)`` as the panels that rows of type ``read_as`` are multiplied by."""
    num_outputs, num_inputs = values.shape
    narrowing = _narrowing(read_as)
    kind = _native.panel_kind("F32", narrowing=narrowing)
    target = np.empty(_native.matrix_bytes(kind, num_outputs, num_inputs), np.uint8)
    source = np.ascontiguousarray(values, np.float32).view(np.uint8).reshape(-1)
    _native.pack(
        device.native,
        type="F32",
        narrowing=narrowing,
        source=source,
        num_outputs=num_outputs,
        num_inputs=num_inputs,
        target=target,
    )
    return PackedMatrix(target, kind, num_outputs, num_inputs)


class Packer:
    """Packs the weights of graphs for one device.

    Panels lie in huge pages, in one memory: what a step reads lies in as few pages as possible. With a cache they are
    those of its file, which is mapped, and written before if it is not there; graphs on the device that read the same
    weights share one memory.
    """

    def __init__(self, device: CpuDevice, *, cache: PackedCache | None, progress: Progress) -> None:
        self._device = device
        self._cache = cache
        self._progress = progress

    def pack(self, graph: Graph, store: WeightStore) -> PackedWeights:
        """Every weight of ``graph`` in the form that kernels read."""
        vectors = {name: _vector(store, name) for name in _plain(graph)}
        jobs = _jobs(graph, store)
        key = _cache_key(jobs, store.digest if self._cache else "")
        layout = lay_out(key, {job.name: job.num_bytes for job in jobs})
        memory = self._device.panels.get(key) if self._cache else None
        if memory is None:
            memory = self._make_memory(jobs, store, key, layout)
        panels = _panels(memory, layout)
        matrices = {job.name: PackedMatrix(panels[job.name], job.kind, *job.shape) for job in jobs}
        return PackedWeights(matrices, vectors, memory)

    def _make_memory(self, jobs: list[_Job], store: WeightStore, key: PackedKey, layout: PackedLayout) -> PanelMemory:
        memory = _map(self._device, self._cache, key, layout) if self._cache else None
        if memory is None:
            memory = PanelMemory(self._device.memory, layout.payload_bytes)
            _pack_all(self._device, jobs, store, _panels(memory, layout), self._progress)
            if self._cache:
                _save(self._cache, key, layout, memory.data, self._progress)
        if self._cache:
            self._device.panels[key] = memory
        return memory


def _panels(memory: PanelMemory, layout: PackedLayout) -> dict[str, ByteArray]:
    return {name: memory.data[place.offset : place.offset + place.size] for name, place in layout.segments.items()}


def _cache_key(jobs: list[_Job], digest: str) -> PackedKey:
    """Graphs that read different weights, or the same in other kinds or another order, have different packed files."""
    form = "8-bit" if any(job.narrowing != "none" for job in jobs) else "stored"
    text = repr([(job.name, job.shape, job.kind) for job in jobs])
    return PackedKey(digest, form, f"{_native.LAYOUT_VERSION}-{hashlib.sha256(text.encode()).hexdigest()[:16]}")


def _map(device: CpuDevice, cache: PackedCache, key: PackedKey, layout: PackedLayout) -> PanelMemory | None:
    """What the cache has. None if it has nothing of this layout that can be mapped: the weights are packed anew."""
    packed = cache.open(key)
    if packed is None:
        return None
    with packed:
        if packed.layout != layout:
            return None
        try:
            return PanelMemory.map(device.memory, packed, begins=device.num_threads > 1)
        except OSError:
            return None


def _save(cache: PackedCache, key: PackedKey, layout: PackedLayout, panels: ByteArray, progress: Progress) -> None:
    """Write ``panels`` to the cache. Where that is impossible the model runs all the same, and ``progress`` says so."""
    try:
        with cache.create(key, {name: place.size for name, place in layout.segments.items()}) as writer:
            writer.commit(panels)
    except StorageError as error:
        progress.describe(f"packed weights are not kept: {error.message}")


def _plain(graph: Graph) -> set[str]:
    """Names of the weights that kernels read in f32, as they are."""
    biases = {weight.name for node in graph.nodes if node.op == "attention" for weight in node.weights}
    return biases | {weight.name for weight in graph.weights() if len(weight.shape) == 1}


def _narrowing(read_as: DType) -> str:
    """What becomes of wide weights that rows of this type are multiplied by (native/pack.h)."""
    return read_as.value if read_as.is_rotated else "q8" if read_as.num_terms else "none"


def _jobs(graph: Graph, store: WeightStore) -> list[_Job]:
    narrowed = narrowed_matrices(graph)
    jobs: list[_Job] = []
    plain = _plain(graph)
    for weight in graph.weights():
        if weight.name in plain:
            continue
        if len(weight.shape) != 2:
            raise UnsupportedModel(f"{weight.name}: expected a vector or a matrix, got shape {weight.shape}")
        storage, narrowing = store.get(weight.name).type.value, _narrowing(narrowed.get(weight.name, DType.F32))
        kind = _native.panel_kind(storage, narrowing=narrowing)
        num_bytes = _native.matrix_bytes(kind, *weight.shape)
        jobs.append(_Job(weight.name, (weight.shape[0], weight.shape[1]), storage, narrowing, kind, num_bytes))
    return jobs


def _pack_all(
    device: CpuDevice, jobs: list[_Job], store: WeightStore, targets: Mapping[str, ByteArray], progress: Progress
) -> None:
    done = 0
    progress.start("packing weights", total_bytes=sum(job.num_bytes for job in jobs), done_bytes=0)
    try:
        for job in jobs:
            _native.pack(
                device.native,
                type=job.storage,
                narrowing=job.narrowing,
                source=store.get(job.name).data,
                num_outputs=job.shape[0],
                num_inputs=job.shape[1],
                target=targets[job.name],
            )
            store.release(job.name)
            done += job.num_bytes
            progress.update(done)
    finally:
        progress.finish()


def _vector(store: WeightStore, name: str) -> Float32Array:
    """A copy in f32."""
    stored = store.get(name)
    values = np.ascontiguousarray(dequantize(stored.data, stored.type, stored.shape), np.float32)
    store.release(name)
    return values
