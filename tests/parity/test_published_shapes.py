"""Published shapes against ``transformers``, live: `make parity`."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from bench.worker import ROOT
from safetensors.numpy import save_file
from tests.parity.exact_run import encode_exact, run_exact
from tests.parity.families import FamilyGolden, read_golden, token_ids, token_type_ids
from tests.parity.fidelity import MAX_ERROR_RATIO, root_mean_square
from tests.parity.published import NUM_TOKENS, SHAPES, PublishedShape

pytestmark = pytest.mark.parity


@dataclass(frozen=True, slots=True)
class Published:
    """A shape, its checkpoint's folder, and what ``transformers`` computes of it."""

    shape: PublishedShape
    folder: Path
    golden: FamilyGolden

    def error(self, *, changes: Mapping[str, object] | None = None, attention_scale: float = 1.0) -> float:
        """Root mean square of what ``exact`` is off, with keys of ``config.json`` replaced."""
        (self.folder / "config.json").write_text(json.dumps({**self.shape.case.config, **(changes or {})}))
        case, ids = self.shape.case, token_ids(self.shape.case, NUM_TOKENS)
        if case.head is None:
            chunks = (1, len(ids) // 2, len(ids) - len(ids) // 2 - 1)
            values = run_exact(self.folder, ids, chunks=chunks, attention_scale=attention_scale)
        else:
            types = token_type_ids(case, NUM_TOKENS)
            values = encode_exact(self.folder, ids, types, head=case.head, attention_scale=attention_scale)
        return root_mean_square(values - self.golden.outputs)


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: shape.name)
def published(
    request: pytest.FixtureRequest, peers_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Published]:
    """Weights made anew on both sides, and removed."""
    shape: PublishedShape = request.param
    folder = tmp_path_factory.mktemp(shape.name)
    command = [str(peers_python), "-m", "scripts.make_family_goldens", "--output", str(folder), shape.name]
    subprocess.run(command, cwd=ROOT, check=True)
    golden = read_golden(shape.name, folder)
    assert len(golden.outputs) == NUM_TOKENS and np.isfinite(golden.outputs).all()
    save_file(shape.published_tensors(golden.shapes), folder / "model.safetensors")
    yield Published(shape, folder, golden)
    shutil.rmtree(folder)


def test_exact_is_as_near_to_f64_as_transformers_in_f32(published: Published) -> None:
    error, f32_error = published.error(), published.golden.f32_error
    print(f"\n{published.shape.name}: root mean square from f64: exact {error:.2e}, f32 {f32_error:.2e}")
    assert error <= MAX_ERROR_RATIO * f32_error


def test_a_small_change_of_a_constant_shows(published: Published) -> None:
    least = 2 * MAX_ERROR_RATIO * published.golden.f32_error
    assert published.error(attention_scale=1.01) > least, "attention scale"
    for what, changes in published.shape.case.changes.items():
        assert published.error(changes=changes) > least, what
