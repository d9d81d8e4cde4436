"""How well embeddings rank pairs of sentences as people do: Spearman's correlation on STS-B, for each policy.

python -m bench.embedding_quality [--model minilm] [--stsb FILE] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from bench.sentences import DEFAULT_STSB, ScoredPair, read_stsb
from lepton_ai import LLM
from lepton_ai.config import Policy


def ranks(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Ranks ``[n]`` from 1 up; equal values share the mean of theirs."""
    _, place, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    shared: npt.NDArray[np.float64] = mean_ranks[place]
    return shared


def spearman(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Pearson's correlation of the ranks of two series ``[n]``.

    Raises ValueError for other shapes, values that are not numbers, and a series that is constant: it has no ranks.
    """
    series = [np.asarray(values, np.float64) for values in (first, second)]
    if series[0].ndim != 1 or series[0].shape != series[1].shape:
        raise ValueError(f"series: expected two of one length, got shapes {series[0].shape} and {series[1].shape}")
    for values in series:
        if np.isnan(values).any() or len(np.unique(values)) < 2:
            raise ValueError("series: expected numbers of at least two different values")
    return float(np.corrcoef(ranks(series[0]), ranks(series[1]))[0, 1])


def cosines(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Cosines ``[n]`` of the rows of two matrices ``[n, C]``."""
    a, b = (rows.astype(np.float64) for rows in (first, second))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine: npt.NDArray[np.float64] = np.sum(a * b, axis=1) / lengths
    return cosine


def correlation(embed: Callable[[list[str]], npt.NDArray[np.float32]], pairs: Sequence[ScoredPair]) -> float:
    """Spearman's correlation of the cosines of two sentences' vectors with people's scores."""
    first = embed([pair.first for pair in pairs])
    second = embed([pair.second for pair in pairs])
    return spearman(cosines(first, second), [pair.score for pair in pairs])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.embedding_quality", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--stsb", type=Path, default=DEFAULT_STSB, help="default: ../shared/data/stsb-dev.tsv")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the correlations to this file")
    arguments = parser.parse_args()
    pairs = read_stsb(arguments.stsb)
    correlations: dict[str, float] = {}
    table = Table("policy", "Spearman", title=f"{arguments.model}, {len(pairs)} pairs of {arguments.stsb.name}")
    for policy in Policy:
        with LLM(arguments.model, policy=policy, num_threads=arguments.threads) as llm:
            correlations[policy.value] = correlation(llm.embed, pairs)
        table.add_row(policy.value, f"{correlations[policy.value]:.4f}")
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(correlations, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
