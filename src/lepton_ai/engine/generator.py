"""A decoder that runs requests, and passes over known texts between them."""

from __future__ import annotations

from lepton_ai.engine.constraints.compiler import ConstraintCompiler
from lepton_ai.engine.decoder import Decoder
from lepton_ai.engine.engine import Engine, EngineConfig
from lepton_ai.engine.evaluator import Evaluator
from lepton_ai.engine.local_client import LocalClient
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.text_decoder import StoppingDecoder
from lepton_ai.graph.attrs import kv_groups
from lepton_ai.text.tokenizer import Tokenizer


class Generator:
    """``client`` takes requests, ``evaluator`` reads texts. ``eos_ids`` end a text."""

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer, eos_ids: frozenset[int]) -> None:
        self.client = LocalClient(
            make_engine(decoder, eos_ids),
            lambda params: make_text_decoder(tokenizer, params),
            make_compiler(decoder, tokenizer, eos_ids).compile,
        )
        self.evaluator = Evaluator(decoder, self.client)


def make_engine(decoder: Decoder, eos_ids: frozenset[int]) -> Engine:
    """The engine of a decoder."""
    config = EngineConfig(
        limits=decoder.limits,
        vocab_size=decoder.model.config.vocab_size,
        eos_ids=eos_ids,
        kv_windows=tuple(spec.window for spec in kv_groups(decoder.kv_specs)),
    )
    return Engine(decoder.executable, decoder.cache, config)


def make_compiler(decoder: Decoder, tokenizer: Tokenizer, eos_ids: frozenset[int]) -> ConstraintCompiler:
    """The compiler of constraints for its vocabulary."""
    return ConstraintCompiler(tokenizer, decoder.model.config.vocab_size, eos_ids)


def make_text_decoder(tokenizer: Tokenizer, params: SamplingParams) -> StoppingDecoder:
    """What makes text of one generation's tokens."""
    return StoppingDecoder(tokenizer, params.stop_strings, min_tokens=params.min_tokens)
