"""What an encoder says of texts: vectors, classes of texts, classes of their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import numpy as np

from lepton_ai.backends.base import Float32Array, Int32Array
from lepton_ai.engine.encoder import Encoder, EncoderInput
from lepton_ai.engine.engine import check_token_ids
from lepton_ai.engine.outputs import Classification, LabeledToken
from lepton_ai.engine.prompts import encode_prompt
from lepton_ai.errors import ContextLengthExceeded, InvalidRequest
from lepton_ai.graph.attrs import PoolMode
from lepton_ai.models.encoder_config import Classifier, Likelihood, Pooling
from lepton_ai.text.tokenizer import Tokenizer

Text: TypeAlias = str | tuple[str, str] | Sequence[int] | Int32Array
"""A text, two that belong together (a question and a passage, say), or token ids as they are."""


class TextEncoder:
    """An encoder with its tokenizer."""

    def __init__(self, encoder: Encoder, tokenizer: Tokenizer) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer

    def embed(
        self, texts: Sequence[Text], *, pooling: str | None, normalize: bool | None, max_length: int | None
    ) -> Float32Array:
        """Vectors ``[n, C]``, in the order of ``texts``. See ``LLM.embed``."""
        head = self._pooling(pooling, normalize)
        inputs = self._inputs(texts, max_length)
        rows = np.empty((len(inputs), self._encoder.model.config.hidden_size), np.float32)
        for row, (vector,) in zip(rows, self._encoder.run((head,), inputs), strict=True):
            row[:] = vector
        return rows

    def classify(self, texts: Sequence[Text], *, max_length: int | None) -> list[Classification]:
        """The classes of each text. See ``LLM.classify``."""
        classifier = self._classifier(is_per_token=False)
        outputs = self._encoder.run(("class_logits",), self._inputs(texts, max_length))
        return [_classification(logits, classifier) for (logits,) in outputs]

    def classify_tokens(self, texts: Sequence[Text], *, max_length: int | None) -> list[list[LabeledToken]]:
        """The class of each token of each text. See ``LLM.classify_tokens``."""
        classifier = self._classifier(is_per_token=True)
        inputs = self._inputs(texts, max_length)
        outputs = self._encoder.run(("class_logits",), inputs)
        return [self._labeled(i.ids, logits, classifier) for i, (logits,) in zip(inputs, outputs, strict=True)]

    def hidden_states(
        self, ids: Sequence[int] | Int32Array, token_type_ids: Sequence[int] | Int32Array | None
    ) -> tuple[Float32Array, Float32Array | None]:
        """The last block's rows ``[T, C]``, and BERT's pooled row ``[C]``. See ``LLM.hidden_states``."""
        input_ = EncoderInput(
            check_token_ids(ids, vocab_size=self._tokenizer.vocab_size, name="ids"), self._types(ids, token_type_ids)
        )
        self._check_length(input_, self._encoder.limits.max_model_len, name="ids")
        if not self._encoder.model.config.has_pooler:
            ((hidden,),) = self._encoder.run(("hidden_states",), [input_])
            return hidden, None
        ((hidden, pooled),) = self._encoder.run(("hidden_states", "pooler_output"), [input_])
        return hidden, pooled

    def _types(
        self, ids: Sequence[int] | Int32Array, token_type_ids: Sequence[int] | Int32Array | None
    ) -> Int32Array | None:
        if token_type_ids is None:
            return None
        count = self._encoder.model.config.num_token_types
        types = check_token_ids(token_type_ids, vocab_size=max(1, count), name="token_type_ids")
        if len(types) != len(ids):
            raise InvalidRequest(
                f"token_type_ids: expected one for each of {len(ids)} ids, got {len(types)}", param="token_type_ids"
            )
        return types

    def _pooling(self, mode: str | None, normalize: bool | None) -> Pooling:
        declared = self._encoder.defaults.pooling
        names = ", ".join(m.value for m in PoolMode)
        if mode is None and declared is None:
            raise InvalidRequest(
                f"pooling: expected one of {names}, as the checkpoint does not say how tokens become one vector",
                param="pooling",
            )
        if mode is not None and mode not in {m.value for m in PoolMode}:
            raise InvalidRequest(f"pooling: expected one of {names}, got {mode!r:.40}", param="pooling")
        is_normalized = (declared.is_normalized if declared else False) if normalize is None else normalize
        return Pooling(PoolMode(mode) if mode is not None or declared is None else declared.mode, is_normalized)

    def _labeled(self, ids: Int32Array, logits: Float32Array, classifier: Classifier) -> list[LabeledToken]:
        labeled = []
        for token_id, row in zip(ids.tolist(), logits, strict=True):
            if not self._tokenizer.is_control(token_id):
                text = self._tokenizer.decode([token_id])
                labeled.append(LabeledToken(token_id, text, _classification(row, classifier)))
        return labeled

    def _classifier(self, *, is_per_token: bool) -> Classifier:
        config = self._encoder.model.config
        classifier = config.classifier
        if classifier is None or classifier.is_per_token != is_per_token:
            wanted = "tokens" if is_per_token else "texts"
            got = "none" if classifier is None else "one of tokens" if classifier.is_per_token else "one of texts"
            raise InvalidRequest(f"model: expected a trained classifier of {wanted}, got {got}", param="model")
        return classifier

    def _inputs(self, texts: Sequence[Text], max_length: int | None) -> list[EncoderInput]:
        self._check_max_length(max_length)
        inputs = [self._input(text, max_length, name=f"texts[{i}]") for i, text in enumerate(texts)]
        limit = self._encoder.limits.max_model_len
        longest = min(max_length or self._encoder.defaults.max_length, limit)
        for index, each in enumerate(inputs):
            self._check_length(each, longest, name=f"texts[{index}]")
        return inputs

    def _input(self, text: Text, max_length: int | None, *, name: str) -> EncoderInput:
        if isinstance(text, str):
            ids = self._tokenizer.encode(text, max_length=max_length)
            return EncoderInput(check_token_ids(ids, vocab_size=self._tokenizer.vocab_size, name=name))
        if isinstance(text, tuple) and len(text) == 2 and isinstance(text[0], str) and isinstance(text[1], str):
            pair = self._tokenizer.encode_pair(text[0], text[1], max_length=max_length)
            return EncoderInput(np.array(pair.ids, np.int32), np.array(pair.token_type_ids, np.int32))
        return EncoderInput(encode_prompt(cast("Sequence[int]", text), self._tokenizer, name=name))

    def _check_max_length(self, max_length: int | None) -> None:
        limit = self._encoder.limits.max_model_len
        if max_length is not None and not 1 <= max_length <= limit:
            raise InvalidRequest(
                f"max_length: expected 1 to {limit}, the model's context, got {max_length}", param="max_length"
            )

    @staticmethod
    def _check_length(input_: EncoderInput, longest: int, *, name: str) -> None:
        if len(input_.ids) > longest:
            raise ContextLengthExceeded(
                f"{name}: {len(input_.ids)} tokens exceed the {longest} that the model was made for; max_length cuts "
                "texts, or lets them be longer than the checkpoint declares",
                param=name,
            )


def _classification(logits: Float32Array, classifier: Classifier) -> Classification:
    match classifier.likelihood:
        case Likelihood.SOFTMAX:
            powers = np.exp(logits - logits.max())
            scores = powers / powers.sum()
        case Likelihood.SIGMOID:
            scores = 1 / (1 + np.exp(-logits))
        case Likelihood.NONE:
            scores = logits
    best = int(np.argmax(scores))
    by_label = tuple(zip(classifier.labels, scores.tolist(), strict=True))
    return Classification(classifier.labels[best], float(scores[best]), by_label)
