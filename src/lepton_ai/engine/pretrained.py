"""Models as callables: ids in, tensors out, for those who think in tensors rather than in requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lepton_ai.backends.base import Float32Array, Int32Array
from lepton_ai.engine.llm import LLM
from lepton_ai.engine.outputs import Completion
from lepton_ai.engine.prompts import Prompt
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.errors import InvalidRequest

if TYPE_CHECKING:
    from typing_extensions import Self

    from lepton_ai.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class CausalOutput:
    """``logits`` ``[T, V]`` f32: row ``t`` is what the model says of the token after token ``t``.

    NumPy arrays speak DLPack: ``torch.from_dlpack(output.logits)`` shares the memory.
    """

    logits: Float32Array


@dataclass(frozen=True, slots=True)
class EncoderOutput:
    """``last_hidden_state`` ``[T, C]`` f32 has a row for each token; ``pooler_output`` ``[C]`` is what the checkpoint's
    pooler makes of the first, None if it has none. Both speak DLPack.
    """

    last_hidden_state: Float32Array
    pooler_output: Float32Array | None


class _PretrainedModel:
    """A context manager around an ``LLM``."""

    _is_encoder: ClassVar[bool]

    def __init__(self, llm: LLM) -> None:
        llm.require(is_encoder=self._is_encoder)
        self.llm = llm

    @classmethod
    def from_pretrained(cls, model: str | Path, **options: Any) -> Self:
        """The model of this name or path. ``options`` are those of ``LLM``.

        Raises like ``LLM``, and InvalidRequest for a model of the other kind.
        """
        llm = LLM(model, **options)
        try:
            return cls(llm)
        except BaseException:
            llm.close()
            raise

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.llm.tokenizer

    def close(self) -> None:
        """Let go of the model. A second time does nothing."""
        self.llm.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class GPTModel(_PretrainedModel):
    """A decoder. Use it as a context manager, from any number of threads.

        with GPTModel.from_pretrained("gpt-2-medium") as model:
            output = model(model.tokenizer.encode("Hello"))

    What ``LLM`` offers beyond (streams, chats, scores) is in ``llm``. Made of an encoder, it raises
    InvalidRequest.
    """

    _is_encoder = False

    def __call__(self, ids: Sequence[int] | Int32Array) -> CausalOutput:
        """Logits after each of the tokens ``ids`` ``[T]``. They take ``4 * T * V`` bytes; ``LLM.logits`` gives pieces.

        Raises InvalidRequest for no ids or one that the vocabulary lacks, and like ``LLM.logits``.
        """
        return CausalOutput(np.concatenate(list(self.llm.logits(ids))))

    def generate(self, prompt: Prompt, params: SamplingParams | None = None, **settings: Any) -> Completion:
        """Complete a prompt. ``settings`` replace fields of ``LLM.default_params``: ``max_tokens=16, temperature=0.0``.

        ``LLM.generate`` gives several. Raises InvalidRequest for ``n`` above 1, for both ``params`` and ``settings``,
        and like ``LLM.generate``.
        """
        if params is not None and settings:
            raise InvalidRequest("params: expected params or single settings, got both", param="params")
        wanted = params or replace(self.llm.default_params, **settings)
        if wanted.n > 1:
            raise InvalidRequest(f"n: expected 1, since one completion is given, got {wanted.n}", param="n")
        (completion,) = self.llm.generate([prompt], wanted)
        return completion


class BertModel(_PretrainedModel):
    """An encoder. Use it as a context manager, from any number of threads.

        with BertModel.from_pretrained("bert-base") as model:
            pair = model.tokenizer.encode_pair("Who wrote it?", "It was written by Ada.")
            rows = model(pair.ids, pair.token_type_ids).last_hidden_state

    Vectors and classes of texts are in ``llm``: ``embed``, ``classify``, ``classify_tokens``. Made of a model that
    generates, it raises InvalidRequest.
    """

    _is_encoder = True

    def __call__(
        self, ids: Sequence[int] | Int32Array, token_type_ids: Sequence[int] | Int32Array | None = None
    ) -> EncoderOutput:
        """Rows of the tokens ``ids`` ``[T]``; ``token_type_ids`` ``[T]`` None are zeros.

        Raises InvalidRequest for no ids, one that the vocabulary lacks, or a model that generates;
        ContextLengthExceeded.
        """
        return EncoderOutput(*self.llm.hidden_states(ids, token_type_ids))
