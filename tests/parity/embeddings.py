"""Sentences, and what ``transformers`` makes of them with a published sentence encoder: goldens of its vectors.

Runs in the product's environment and in that of ``transformers`` alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

FOLDER = Path(__file__).parent / "golden" / "embeddings"
MODELS = ("minilm", "mpnet")

SENTENCES = (
    "A man is playing the guitar.",
    "Someone makes music on a stringed instrument.",
    "The central bank left interest rates unchanged on Thursday, as most analysts had expected.",
    "Shares fell by 12.5% after the company warned of lower profits.",
    "How do I reset the PIN of my card?",
    "My card was swallowed by the machine, what now?",
    "a",
    "!?",
    "Crème brûlée costs 7 € at the café in Zürich.",
    "从前有一座山，山上有一座庙。",
    "def fibonacci(n): return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)",
    "antidisestablishmentarianism",
    "The quick brown fox jumps over the lazy dog. " * 4,
    "In physics, the second law of thermodynamics states that the entropy of an isolated system never decreases. " * 8,
    "Patients with chronic kidney disease should avoid this drug unless the benefit clearly outweighs the risk.",
    "no no no no no no no no no no no no no no no no",
)
"""One token to some two hundred, other alphabets, code, words that fall into many pieces."""


@dataclass(frozen=True, slots=True)
class EmbeddingGolden:
    """``ids`` of each sentence; ``vectors`` ``[n, C]`` in f64, of length 1; the f32 vectors of the same library."""

    ids: list[list[int]]
    vectors: npt.NDArray[np.float64]
    vectors_f32: npt.NDArray[np.float32]


def read_golden(name: str) -> EmbeddingGolden:
    """The golden of a model."""
    with np.load(FOLDER / f"{name}.npz") as file:
        ends = np.cumsum(file["lengths"])
        ids = [part.tolist() for part in np.split(file["ids"], ends[:-1])]
        return EmbeddingGolden(ids, file["vectors"], file["vectors_f32"])


def write_golden(name: str, golden: EmbeddingGolden) -> None:
    """Keep the golden of a model."""
    FOLDER.mkdir(exist_ok=True)
    np.savez_compressed(
        FOLDER / f"{name}.npz",
        ids=np.concatenate([np.array(ids, np.int32) for ids in golden.ids]),
        lengths=np.array([len(ids) for ids in golden.ids], np.int32),
        vectors=golden.vectors,
        vectors_f32=golden.vectors_f32,
    )
