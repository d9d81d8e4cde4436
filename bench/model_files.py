"""The files that are measured: their digest and width, and the Q4_0 form of a model."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.worker import ROOT
from lepton_ai.config import Environment
from lepton_ai.text.tokenizer import Tokenizer
from lepton_ai.weights.gguf import GGUFFile

CACHE = ROOT / "build" / "bench"
"""What benchmarks keep between runs."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A GGUF file, or a folder. ``body_bits`` and ``head_bits`` are bits for each weight of the layers' matrices and of
    the head, scales included; the head is the embedding table if they are tied. None of a folder.
    """

    path: Path
    digest: str
    vocab_size: int
    body_bits: float | None
    head_bits: float | None


def describe_file(path: Path) -> ModelFile:
    """Read a file's header."""
    with GGUFFile(path, Environment.read().home) as file:
        names = set(file.names())
        head = "output.weight" if "output.weight" in names else "token_embd.weight"
        body = [name for name in names if name.startswith("blk.") and len(file.get(name).shape) == 2]
        return ModelFile(
            path, file.digest, file.get(head).shape[0], _bits_per_weight(file, body), _bits_per_weight(file, [head])
        )


def describe_folder(path: Path) -> ModelFile:
    """Read the folder of an encoder."""
    digest = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    return ModelFile(path, digest, Tokenizer.from_pretrained(path).vocab_size, None, None)


def read_windows(path: Path, text: bytes, *, num_tokens: int, window: int = 512) -> list[list[int]]:
    """The first ``num_tokens`` tokens of ``text`` in windows, each with the BOS in front that the model wants."""
    with GGUFFile(path) as file:
        tokenizer = Tokenizer.from_metadata(file.metadata)
    prefix = [i for i in tokenizer.encode("")[:1] if i == tokenizer.bos_id]
    ids = tokenizer.encode(text, add_special_tokens=False)[:num_tokens]
    step = window - len(prefix)
    return [prefix + ids[start : start + step] for start in range(0, len(ids), step)]


def make_q4_0(source: ModelFile, peers_python: Path) -> Path:
    """The Q4_0 form of a model as llama.cpp makes it, from the cache if it was made before."""
    target = CACHE / f"{source.digest[:16]}-q4_0.gguf"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(f".{os.getpid()}.part")
        try:
            command = [str(peers_python), "-m", "bench.peers.converters.llama_cpp", str(source.path), str(part)]
            subprocess.run(command, cwd=ROOT, check=True)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    return target


def _bits_per_weight(file: GGUFFile, names: Sequence[str]) -> float:
    tensors = [file.get(name) for name in names]
    num_weights = sum(tensor.shape[0] * tensor.shape[1] for tensor in tensors)
    return sum(8 * tensor.data.nbytes for tensor in tensors) / num_weights
