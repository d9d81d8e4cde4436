"""A decoder that runs requests, and passes over known texts between them."""

from __future__ import annotations

from lepton_ai.engine.client import EngineClient
from lepton_ai.engine.constraint_compiler import ConstraintCompiler
from lepton_ai.engine.decoder import Decoder
from lepton_ai.engine.engine import Engine, EngineConfig
from lepton_ai.engine.evaluator import Evaluator
from lepton_ai.engine.text_decoder import StoppingDecoder
from lepton_ai.graph.attrs import kv_groups
from lepton_ai.text.tokenizer import Tokenizer


class Generator:
    """``client`` takes requests, ``evaluator`` reads texts. ``eos_ids`` end a text."""

    def __init__(self, decoder: Decoder, tokenizer: Tokenizer, eos_ids: frozenset[int]) -> None:
        config = EngineConfig(
            limits=decoder.limits,
            vocab_size=decoder.model.config.vocab_size,
            eos_ids=eos_ids,
            num_kv_groups=len(kv_groups(decoder.kv_specs)),
        )
        self.client = EngineClient(
            Engine(decoder.executable, decoder.cache, config),
            lambda params: StoppingDecoder(tokenizer, params.stop_strings, min_tokens=params.min_tokens),
            ConstraintCompiler(tokenizer, config.vocab_size, eos_ids).compile,
        )
        self.evaluator = Evaluator(decoder, self.client)
