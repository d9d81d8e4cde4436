"""Every family against ``transformers`` in f64, on checkpoints in their published layout; constants of one per cent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from safetensors.numpy import save_file
from tests.parity.exact_run import encode_exact, run_exact
from tests.parity.families import (
    CASES,
    Case,
    FamilyGolden,
    random_weights,
    read_golden,
    token_ids,
    token_type_ids,
)
from tests.parity.fidelity import MAX_ERROR_RATIO, root_mean_square

CHUNKS = (1, 40, 55)


def write_folder(path: Path, case: Case, golden: FamilyGolden, changes: Mapping[str, object]) -> Path:
    """The checkpoint of a case, with some keys of its ``config.json`` changed."""
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({**case.config, **changes}))
    if not (path / "model.safetensors").exists():
        save_file(random_weights(case.name, golden.shapes), path / "model.safetensors")
    return path


def error_of(folder: Path, case: Case, golden: FamilyGolden) -> float:
    """Root mean square of what ``exact`` is off, the prompt of a decoder cut into chunks."""
    ids, home = token_ids(case), folder.parent / "home"
    if case.head is None:
        got = run_exact(folder, ids, chunks=CHUNKS, home=home)
    else:
        got = encode_exact(folder, ids, token_type_ids(case), head=case.head, home=home)
    return root_mean_square(got - golden.outputs)


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
