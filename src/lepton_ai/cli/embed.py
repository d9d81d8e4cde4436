"""``lepton embed``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from lepton_ai.backends.base import Float32Array
from lepton_ai.cli.loading import open_llm
from lepton_ai.cli.options import AllowConfigKeys, Json, ModelName, PolicyOption, Threads, Timing
from lepton_ai.cli.output import print_json, print_line, print_note
from lepton_ai.cli.table import print_table
from lepton_ai.cli.texts import Input, MaxLength, Texts, gather_texts
from lepton_ai.cli.timing import StartTiming
from lepton_ai.config import Policy
from lepton_ai.errors import InvalidRequest

_MAX_SHOWN = 12
"""Texts whose cosines are printed: a table of more fits no terminal."""

Pooling = Annotated[
    str | None,
    typer.Option(
        "--pooling", help="How tokens become one vector: cls, mean, max, last, mean_sqrt_len.", metavar="MODE"
    ),
]
Normalize = Annotated[
    bool | None, typer.Option("--normalize/--no-normalize", help="Scale vectors to length 1. Default: as declared.")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write the vectors to this .npy file, a row for each text.")
]


def embed(
    model: ModelName,
    texts: Texts = None,
    *,
    input: Input = None,
    output: Output = None,
    max_length: MaxLength = None,
    pooling: Pooling = None,
    normalize: Normalize = None,
    threads: Threads = None,
    policy: PolicyOption = Policy.AUTO,
    allow_config_key: AllowConfigKeys = None,
    timing: Timing = False,
    json: Json = False,
) -> None:
    """Turn texts into vectors, and show how alike they are: the cosine of each pair.

    \b
    Examples:
      lepton embed minilm "A man plays the guitar." "Someone makes music."
      lepton embed minilm --input sentences.txt --output vectors.npy
    """
    start = StartTiming(is_wanted=timing)
    gathered = gather_texts(texts, input)
    if len(gathered) > _MAX_SHOWN and output is None and not json:
        raise InvalidRequest(
            f"--output: expected a file for the vectors of {len(gathered)} texts, or --json", param="output"
        )
    if output is not None and output.suffix != ".npy":
        raise InvalidRequest(f"--output: expected a file name that ends in .npy, got {output.name!r}", param="output")
    with open_llm(
        model, threads=threads, policy=policy, allow_config_keys=allow_config_key, on_phase=start.observer
    ) as llm:
        with start.phase("vectors"):
            vectors = llm.embed(gathered, pooling=pooling, normalize=normalize, max_length=max_length)
        name = llm.model_info.name
    if output is not None:
        _save(output, vectors)
    if json:
        shown = {} if output else {"embeddings": vectors.tolist()}
        shown |= {"timing": start.to_json()} if timing else {}
        print_json({"model": name, "dimension": vectors.shape[1], **shown, "cosines": cosines(vectors).tolist()})
    elif len(gathered) <= _MAX_SHOWN:
        _show(gathered, cosines(vectors))
    if output is not None:
        print_note(f"{output}: {len(vectors)} vectors of {vectors.shape[1]} values")
    if timing and not json:
        start.print()


def cosines(vectors: Float32Array) -> Float32Array:
    """The cosine of each pair of rows ``[n, n]``; of a row of zeros, 0."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    product: Float32Array = unit @ unit.T
    return product


def _show(texts: list[str], values: Float32Array) -> None:
    numbers = [str(i + 1) for i in range(len(texts))]
    rows = [
        (number, *(f"{value:.4f}" for value in row), text)
        for number, row, text in zip(numbers, values, texts, strict=True)
    ]
    print_table(("text", *numbers, ""), rows, right=("text", *numbers))
    if len(texts) == 2:
        print_line()
        print_line(f"cosine {values[0, 1]:.4f}")


def _save(path: Path, vectors: Float32Array) -> None:
    try:
        np.save(path, vectors, allow_pickle=False)
    except OSError as error:
        raise InvalidRequest(f"--output: cannot write {path}: {error.strerror}", param="output") from None
