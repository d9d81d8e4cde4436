"""The goldens that scripts/make_parity_goldens.py writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

FOLDER = Path(__file__).parent / "golden"


@dataclass(frozen=True, slots=True)
class Golden:
    """What ``transformers`` computes in f64 and f32; the fields are described in scripts/make_parity_goldens.py."""

    digest: str
    text_ids: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    logits: npt.NDArray[np.float64]
    logits_f32: npt.NDArray[np.float32]
    logsumexp: npt.NDArray[np.float64]
    logsumexp_f32: npt.NDArray[np.float32]
    argmax: npt.NDArray[np.int32]
    gaps: npt.NDArray[np.float64]
    prompts: npt.NDArray[np.int32]
    continuations: npt.NDArray[np.int32]
    continuation_gaps: npt.NDArray[np.float64]


def read_golden(path: Path) -> Golden:
    """Read one file."""
    with np.load(path) as arrays:
        fields = dict(arrays)
    digest = str(fields.pop("digest"))
    return Golden(digest=digest, **fields)
