"""What encoders are compared on: a model's folder, sentences as token ids, and the peers' forms of the model."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.model_files import CACHE
from bench.peers.environments import REQUIREMENTS
from bench.sentences import SentenceSets
from bench.worker import ROOT
from lepton_ai.text.tokenizer import Tokenizer

_EXPORTERS = tuple(ROOT / "bench" / "peers" / name for name in ("bert_onnx.py", "encoder_export.py"))
_MADE_BY = (REQUIREMENTS / "encoders.txt", *_EXPORTERS)


@dataclass(frozen=True, slots=True)
class EncoderFiles:
    """A model's folder, the folder of the peers' forms of it, and token ids of the sentences to compare on."""

    model: Path
    peer_forms: Path
    vocab_size: int
    measured_ids: list[list[int]]


def prepare_files(model: Path, sentences: SentenceSets, peers_python: Path) -> EncoderFiles:
    """Tokenise, and make the peers' forms or take them from the cache."""
    tokenizer = Tokenizer.from_pretrained(model)
    measured, calibration = (
        [tokenizer.encode(text) for text in texts] for texts in (sentences.measured, sentences.calibration)
    )
    return EncoderFiles(model, make_peer_forms(model, calibration, peers_python), tokenizer.vocab_size, measured)


def make_peer_forms(model: Path, calibration: list[list[int]], peers_python: Path) -> Path:
    """The folder of the forms that the peers run, from the cache if they were made of the same before.

    Raises CalledProcessError if bench/peers/encoder_export.py fails under ``peers_python``.
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
            "bench.peers.encoder_export",
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
