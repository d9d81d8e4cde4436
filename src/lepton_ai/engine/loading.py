"""From a name to a model that runs: resolve, open, check and compile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lepton_ai.config import Environment
from lepton_ai.engine.decoder import Decoder, make_decoder
from lepton_ai.engine.device import ChosenDevice, choose_device
from lepton_ai.engine.encoder import Encoder, make_encoder
from lepton_ai.engine.load_options import LoadOptions
from lepton_ai.errors import InvalidModel
from lepton_ai.models.encoder import EncoderModel
from lepton_ai.models.registry import read_model
from lepton_ai.text.tokenizer import Tokenizer
from lepton_ai.weights.checkpoint import Checkpoint, open_checkpoint
from lepton_ai.weights.sources.resolve import resolve


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that runs, with its tokenizer. ``runtime`` is what it can do."""

    path: Path
    checkpoint: Checkpoint
    tokenizer: Tokenizer
    options: LoadOptions
    device: ChosenDevice
    runtime: Decoder | Encoder

    def close(self) -> None:
        """Close the checkpoint."""
        self.checkpoint.close()


def load(name_or_path: str | Path, options: LoadOptions, environment: Environment) -> LoadedModel:
    """Make a model ready to run. The tokenizer is made while the weights are packed.

    Raises ModelNotFound, DownloadFailed, InvalidModel (UnsupportedModel, WeightMismatch), HardwareUnsupported,
    StorageError, OutOfMemory.
    """
    device = choose_device(options, environment)
    path = resolve(name_or_path, environment, options.progress)
    checkpoint = open_checkpoint(path, environment.home)
    try:
        return _load(path, checkpoint, options, environment, device)
    except BaseException:
        checkpoint.close()
        raise


def _load(
    path: Path, checkpoint: Checkpoint, options: LoadOptions, environment: Environment, device: ChosenDevice
) -> LoadedModel:
    model, store = read_model(checkpoint, allowed_config_keys=options.allow_config_keys)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(Tokenizer.from_checkpoint, checkpoint, cache_dir=environment.home / "tokenizers")
        runtime: Decoder | Encoder
        if isinstance(model, EncoderModel):
            runtime = make_encoder(model, store, device.backend, options, checkpoint)
        else:
            runtime = make_decoder(model, store, device.backend, options)
    tokenizer = reading.result()
    if tokenizer.vocab_size > model.config.vocab_size:
        raise InvalidModel(
            f"{path}: expected a tokenizer of at most {model.config.vocab_size} tokens, as many as the model has "
            f"embeddings, got one of {tokenizer.vocab_size}",
            param="model",
        )
    return LoadedModel(path, checkpoint, tokenizer, options, device, runtime)
