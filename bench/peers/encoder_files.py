"""What encoders are compared on: sentences as token ids, and the peers' forms of a model."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.model_files import CACHE
from bench.peers.environments import REQUIREMENTS, ensure
from bench.sentences import DEFAULT_STSB, SentenceSets, sentence_sets
from bench.worker import ROOT
from lepton_ai.text.tokenizer import Tokenizer

_EXPORTERS = tuple(ROOT / "bench" / "peers" / "converters" / name for name in ("bert_onnx.py", "encoder.py"))
_MADE_BY = (REQUIREMENTS / "encoders.txt", *_EXPORTERS)


def exported(name: str, model: Path) -> Path:
    """The file of that name among the peers' forms of a model. Raises like ``make_peer_forms``, and like ``ensure``."""
    calibration = encode(model, default_sentences().calibration)
    return make_peer_forms(model, calibration, ensure("encoders")) / name


def encode(model: Path, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts."""
    tokenizer = Tokenizer.from_pretrained(model)
    return [tokenizer.encode(text) for text in texts]


def default_sentences() -> SentenceSets:
    """Of STS-B where that is there, else built in."""
    return sentence_sets(DEFAULT_STSB if DEFAULT_STSB.exists() else None)


def make_peer_forms(model: Path, calibration: list[list[int]], peers_python: Path) -> Path:
    """The folder of the forms that the peers run, from the cache if they were made of the same before.

    Raises CalledProcessError if bench/peers/converters/encoder.py fails under ``peers_python``.
    """
    text = json.dumps(calibration)
    target = CACHE / f"encoder-{_digest([model / 'config.json', model / 'model.safetensors', *_MADE_BY], text)}"
    if target.exists():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix="encoder-", suffix=".part", dir=CACHE))
    try:
        (part / "calibration.json").write_text(text, encoding="utf-8")
        command = [
            str(peers_python),
            "-m",
            "bench.peers.converters.encoder",
            str(model),
            str(part / "calibration.json"),
            str(part),
        ]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _digest(files: Sequence[Path], text: str) -> str:
    """Of all that the peers' forms follow from."""
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    return hashlib.sha256("\n".join([*digests, text]).encode()).hexdigest()[:16]
