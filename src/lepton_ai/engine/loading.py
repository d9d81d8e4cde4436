"""From a name to a model that runs: resolve, open, check and compile."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from lepton_ai.config import Environment
from lepton_ai.engine.backend_choice import ChosenDevice, choose_device
from lepton_ai.engine.beside import Beside
from lepton_ai.engine.decoder import Decoder, make_decoder
from lepton_ai.engine.encoder import Encoder, make_encoder
from lepton_ai.engine.load_options import LoadOptions
from lepton_ai.engine.prompt_encoder import PromptEncoder
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.errors import InvalidModel, InvalidRequest
from lepton_ai.models.encoder import EncoderModel
from lepton_ai.models.family import Model
from lepton_ai.models.registry import read_model
from lepton_ai.phases import phase
from lepton_ai.text.tokenizer import Tokenizer
from lepton_ai.weights.checkpoint import Checkpoint, open_checkpoint
from lepton_ai.weights.finite import FiniteStore
from lepton_ai.weights.folder import CheckpointFolder
from lepton_ai.weights.generation_config import GENERATION_CONFIG, GenerationConfig, read_generation_config
from lepton_ai.weights.sources.progress import Progress
from lepton_ai.weights.sources.resolve import resolve


@dataclass(frozen=True, slots=True)
class TextSide:
    """What lies between texts and tokens. ``eos_ids`` end a generated text; ``default_params`` hold where a caller
    gives none."""

    prompts: PromptEncoder
    tokenizer: Tokenizer
    eos_ids: frozenset[int]
    default_params: SamplingParams


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that runs. ``runtime`` is what it can do."""

    path: Path
    checkpoint: Checkpoint
    texts: TextSide
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
    with phase("device", options.on_phase):
        device = choose_device(options, environment)
    with phase("open", options.on_phase):
        path = resolve(name_or_path, environment, options.progress)
        checkpoint = open_checkpoint(path, environment.home)
    try:
        return _load(path, checkpoint, options, environment, device)
    except BaseException:
        checkpoint.close()
        raise


def is_encoder(
    name_or_path: str | Path,
    environment: Environment,
    progress: Progress,
    *,
    allowed_config_keys: Collection[str] = (),
) -> bool:
    """Whether a model reads texts, and generates none. Raises like ``load``, as far as that reads it."""
    with open_checkpoint(resolve(name_or_path, environment, progress), environment.home) as checkpoint:
        model, _ = read_model(checkpoint, allowed_config_keys=allowed_config_keys)
    return isinstance(model, EncoderModel)


def _load(
    path: Path, checkpoint: Checkpoint, options: LoadOptions, environment: Environment, device: ChosenDevice
) -> LoadedModel:
    with phase("open", options.on_phase):
        model, unchecked = read_model(checkpoint, allowed_config_keys=options.allow_config_keys)
    store = FiniteStore(unchecked)
    with Beside(lambda: _read_text_side(path, checkpoint, model, options, environment)) as reading:
        runtime: Decoder | Encoder
        if isinstance(model, EncoderModel):
            runtime = make_encoder(model, store, device.backend, options, checkpoint)
        else:
            runtime = make_decoder(model, store, device.backend, options)
    return LoadedModel(path, checkpoint, reading.result(), options, device, runtime)


def _read_text_side(
    path: Path, checkpoint: Checkpoint, model: Model, options: LoadOptions, environment: Environment
) -> TextSide:
    with phase("tokenizer", options.on_phase):
        return read_text_side(path, checkpoint, model, environment)


def read_text_side(path: Path, checkpoint: Checkpoint, model: Model, environment: Environment) -> TextSide:
    """What a checkpoint says of texts. Raises InvalidModel, UnsupportedModel."""
    generation = _generation_config(checkpoint, model)
    default_params = _default_params(generation, path)
    tokenizer = Tokenizer.from_checkpoint(checkpoint, cache_dir=environment.home / "tokenizers")
    _check_sizes(tokenizer, model, path)
    eos_ids = frozenset((*tokenizer.eos_token_ids, *generation.eos_token_ids))
    return TextSide(PromptEncoder(checkpoint, tokenizer), tokenizer, eos_ids, default_params)


def _check_sizes(tokenizer: Tokenizer, model: Model, path: Path) -> None:
    if tokenizer.vocab_size > model.config.vocab_size:
        raise InvalidModel(
            f"{path}: expected a tokenizer of at most {model.config.vocab_size} tokens, as many as the model has "
            f"embeddings, got one of {tokenizer.vocab_size}",
            param="model",
        )


def _generation_config(checkpoint: Checkpoint, model: Model) -> GenerationConfig:
    """GGUF files say what ends a text with their tokenizer, and nothing of sampling; an encoder generates none."""
    if not isinstance(checkpoint, CheckpointFolder) or isinstance(model, EncoderModel):
        return GenerationConfig()
    return read_generation_config(checkpoint.path, checkpoint.config, vocab_size=model.config.vocab_size)


def _default_params(generation: GenerationConfig, path: Path) -> SamplingParams:
    try:
        return SamplingParams(**generation.sampling)  # type: ignore[arg-type]  # its fields check their types
    except InvalidRequest as error:
        raise InvalidModel(f"{path / GENERATION_CONFIG}: {error.message}", param="model") from None
