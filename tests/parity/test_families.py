"""Every family against ``transformers`` in f64, on checkpoints in their published layout; constants of one per cent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.models.tiny import step
from tests.parity.families import (
    CASES,
    Case,
    FamilyGolden,
    random_weights,
    read_golden,
    token_ids,
    token_type_ids,
)
from tests.parity.fidelity import MAX_ERROR_RATIO

from lepton_ai.backends.base import Float32Array, Int32Array
from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.config import Limits, Policy
from lepton_ai.engine.encoder import Encoder, EncoderInput, make_encoder
from lepton_ai.engine.load_options import LoadOptions
from lepton_ai.graph.attrs import kv_groups
from lepton_ai.models.decoder import DecoderModel
from lepton_ai.models.encoder import EncoderModel
from lepton_ai.models.registry import read_model
from lepton_ai.weights.checkpoint import open_checkpoint
from lepton_ai.weights.packed import PackedCache
from lepton_ai.weights.store import WeightStore, check_strict

CHUNKS = (1, 40, 55)


def write_folder(path: Path, case: Case, golden: FamilyGolden, changes: Mapping[str, object]) -> Path:
    """The checkpoint of a case, with some keys of its ``config.json`` changed."""
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({**case.config, **changes}))
    if not (path / "model.safetensors").exists():
        save_file(random_weights(case.name, golden.shapes), path / "model.safetensors")
    return path


def error_of(folder: Path, case: Case, golden: FamilyGolden) -> float:
    """Root mean square of what ``exact`` is off."""
    with open_checkpoint(folder) as checkpoint:
        model, store = read_model(checkpoint)
        backend = CpuBackend(CpuDevice(num_threads=2), cache=PackedCache(folder.parent / "home"))
        if isinstance(model, EncoderModel):
            encoder = make_encoder(model, store, backend, LoadOptions(policy=Policy.EXACT), checkpoint)
            got = encoder_outputs(encoder, case)
        else:
            got = decoder_logits(model, store, backend, token_ids(case.name))
    return float(np.sqrt(np.mean(np.square(got.astype(np.float64) - golden.outputs))))


def encoder_outputs(encoder: Encoder, case: Case) -> Float32Array:
    """What the case's head gives, in a batch with a sequence that must not matter."""
    assert case.head is not None
    ids = token_ids(case.name)
    other, mine = EncoderInput(ids[::-2].copy()), EncoderInput(ids, token_type_ids(case))
    ((got,), _) = encoder.run((case.head,), [mine, other])
    return got


def decoder_logits(model: DecoderModel, store: WeightStore, backend: CpuBackend, ids: Int32Array) -> Float32Array:
    """Logits of every token, the prompt cut into chunks."""
    blocks = list(range(-(-len(ids) // 16)))
    graph = model.build(head="logits")
    check_strict(store, graph.weights(), model.ignorable_names())
    limits = Limits(max_tokens=len(ids), max_rows=len(ids), max_seqs=1, max_model_len=len(ids))
    executable = backend.compile(graph, store, limits, policy=Policy.EXACT)
    specs = model.kv_specs()
    cache = backend.allocate_kv(specs, len(blocks))
    rows, start = [], 0
    for size in CHUNKS:
        chunk = (start, ids[start : start + size].tolist(), blocks)
        inputs = step([chunk], num_groups=len(kv_groups(specs)))
        rows.append(executable.run(inputs, cache).result().tensors["logits"].copy())
        start += size
    assert start == len(ids)
    return np.concatenate(rows)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_exact_is_as_near_to_f64_as_transformers_in_f32(tmp_path: Path, case: Case) -> None:
    golden = read_golden(case.name)
    folder = write_folder(tmp_path / "model", case, golden, {})
    assert error_of(folder, case, golden) <= MAX_ERROR_RATIO * golden.f32_error


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_small_change_of_a_constant_shows(tmp_path: Path, case: Case) -> None:
    golden = read_golden(case.name)
    for what, changes in case.changes.items():
        folder = write_folder(tmp_path / "model", case, golden, changes)
        assert error_of(folder, case, golden) > 2 * MAX_ERROR_RATIO * golden.f32_error, what
