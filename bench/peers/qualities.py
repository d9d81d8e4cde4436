"""What an engine's speed costs: KL of what it predicts, or the least cosine of its vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.divergence import DivergenceCache, MeasuredOn, measure_divergences
from bench.embedding_quality import cosines
from bench.model_files import CACHE, ModelFile, read_windows
from bench.worker import Worker

_COSINE_BATCH = 32

Start = Callable[[], AbstractContextManager[Worker]]


@dataclass(frozen=True, slots=True)
class Text:
    """What predictions are compared on: the first tokens of a text."""

    content: bytes
    num_tokens: int

    @property
    def digest(self) -> str:
        """Of the text and of how much of it is taken."""
        return hashlib.sha256(self.content).hexdigest() + f"-{self.num_tokens}"


def divergences(text: Text, file: ModelFile, workers: Sequence[Worker], start_exact: Start) -> list[float]:
    """KL(exact || engine) of each, mean nats a token: as measured before, or beside a worker with the policy exact."""
    cache = DivergenceCache(CACHE / "divergence.json")
    with start_exact() as exact:
        source = MeasuredOn(exact.info, file.digest, text.digest, text.num_tokens)
        missing = [worker for worker in workers if cache.find(worker.info, source) is None]
        if missing:
            windows = read_windows(file.path, text.content, num_tokens=text.num_tokens)
            for worker, divergence in zip(missing, measure_divergences(missing, exact, windows), strict=True):
                cache.add(worker.info, source, divergence)
    found = [cache.find(worker.info, source) for worker in workers]
    return [divergence.kl_divergence for divergence in found if divergence is not None]


def vectors(worker: Worker, sentences: list[list[int]]) -> npt.NDArray[np.float32]:
    """Of the sentences ``[n, C]``."""
    return worker.embed(sentences, batch_size=_COSINE_BATCH).rows


def least_cosine(worker: Worker, sentences: list[list[int]], reference: npt.NDArray[np.float32]) -> float:
    """Of a worker's vectors with ``reference``, sentence by sentence."""
    return float(cosines(vectors(worker, sentences), reference).min())
