"""The front door: a model as an object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from lepton_ai.backends.base import Float32Array, Int32Array
from lepton_ai.config import Environment, Policy
from lepton_ai.engine.choices import as_run, chosen
from lepton_ai.engine.decoder import Decoder
from lepton_ai.engine.device import Device
from lepton_ai.engine.encoder import Encoder
from lepton_ai.engine.generator import Generator
from lepton_ai.engine.load_options import LoadOptions
from lepton_ai.engine.loading import load
from lepton_ai.engine.local_client import LocalClient
from lepton_ai.engine.outputs import Classification, Completion, LabeledToken, Score, join_chunks
from lepton_ai.engine.prompts import Message, Prompt, as_list, check_length
from lepton_ai.engine.request_options import RequestOptions
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.stats import EngineStats
from lepton_ai.engine.stream import Stream
from lepton_ai.engine.text_encoder import Text, TextEncoder
from lepton_ai.engine.text_front import TextFront
from lepton_ai.errors import InvalidRequest
from lepton_ai.models.encoder import EncoderModel
from lepton_ai.models.family import not_a_decoder
from lepton_ai.phases import PhaseObserver
from lepton_ai.weights.sources.progress import Progress

if TYPE_CHECKING:
    from lepton_ai.engine.model_info import ModelInfo
    from lepton_ai.engine.trace import StepObserver


class LLM(TextFront):
    """A model that generates, or an encoder. Use it as a context manager, from any number of threads.

    ``model`` is a short name, ``hf:owner/name``, ``pypi:package==version``, or the path of a GGUF file or of a folder
    with ``config.json`` and safetensors. ``num_threads`` None takes the cores this process may use.
    ``policy`` is "exact", "auto" or "fast" (see ``config.Policy``), ``backend`` "cpu" or "reference". A step runs at
    most ``max_tokens_per_step`` tokens (an encoder at least one whole text) of at most ``max_num_seqs`` requests; None
    takes 16 of them, or as many texts as fit. ``max_model_len`` None takes the model's context, or less if the KV
    memory holds less. ``kv_memory_bytes`` None takes room for ``max_num_seqs`` requests of ``max_model_len``; if that
    is None too, for one full context or 16,384 tokens, whichever is more; but at most a quarter of the free memory.
    ``kv_dtype`` is what that memory holds: "f32", "f16", "int16" or "int8"; None takes the policy's own, f32 for exact,
    else what is fastest here of f16 and int16. An encoder keeps no KV from step to step, and takes neither.
    ``allow_config_keys`` are keys of a ``config.json`` that no family knows and that, you vouch, change nothing. On a
    ``device`` models share threads and memory. ``progress`` is told of downloads and packing, ``on_phase`` of the parts
    of loading as they end: "open", "tokenizer" (beside the others), "device", "graph", "weights", "program".

    Raises ModelNotFound, DownloadFailed, InvalidModel, HardwareUnsupported, StorageError, OutOfMemory, and
    InvalidRequest for an argument out of range. After ``close``, generating raises InvalidRequest.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        num_threads: int | None = None,
        policy: str | Policy = Policy.AUTO,
        backend: str = "cpu",
        max_num_seqs: int | None = None,
        max_tokens_per_step: int = 512,
        max_model_len: int | None = None,
        kv_memory_bytes: int | None = None,
        kv_dtype: str | None = None,
        allow_config_keys: Sequence[str] = (),
        device: Device | None = None,
        progress: Progress | None = None,
        on_phase: PhaseObserver | None = None,
    ) -> None:
        environment = Environment.read()
        values = {
            "num_threads": num_threads,
            "policy": policy,
            "backend": backend,
            "max_num_seqs": max_num_seqs,
            "max_tokens_per_step": max_tokens_per_step,
            "max_model_len": max_model_len,
            "kv_memory_bytes": kv_memory_bytes,
            "kv_dtype": kv_dtype,
            "allow_config_keys": tuple(allow_config_keys),
        }
        self._name = str(model)
        options = LoadOptions.from_values(values, environment, device=device, progress=progress, on_phase=on_phase)
        self._loaded = loaded = load(model, options, environment)
        super().__init__(loaded.texts)
        runtime, texts = loaded.runtime, loaded.texts
        self._model = runtime.model
        self._generator: Generator | None = None
        self._text_encoder: TextEncoder | None = None
        if isinstance(runtime, Decoder):
            self._generator = Generator(runtime, texts.tokenizer, texts.eos_ids)
        else:
            self._text_encoder = TextEncoder(runtime, texts.tokenizer)

    @cached_property
    def model_info(self) -> ModelInfo:
        """What was loaded, and how it runs."""
        from lepton_ai.engine.model_info import model_info

        return model_info(self._name, self._loaded)

    def generate(
        self,
        prompts: str | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        options: RequestOptions | None = None,
    ) -> list[Completion]:
        """Complete each prompt; all run together. ``params`` holds for all, or is one for each; see ``default_params``.

        ``options`` say whose they are and how urgent. Where ``params.n`` is above 1, that many stand in a row.

        Raises InvalidRequest for an empty prompt or bad ids, ContextLengthExceeded, OutOfMemory: before anything runs.
        """
        wanted = as_list(prompts, name="prompts")
        each = [params or self.default_params] * len(wanted) if isinstance(params, SamplingParams | None) else params
        if len(each) != len(wanted):
            raise InvalidRequest(
                f"params: expected one for each of {len(wanted)} prompts, got {len(each)}", param="params"
            )
        ids = [self._texts.prompts.encode(prompt) for prompt in wanted]
        generations = self._client.submit_all(ids, [as_run(one) for one in each], options)
        streams = [Stream(self._client, generation) for generation in generations]
        try:
            return chosen((join_chunks(stream) for stream in streams), each)
        finally:
            for stream in streams:
                stream.close()

    def stream(
        self, prompt: Prompt, params: SamplingParams | None = None, *, options: RequestOptions | None = None
    ) -> Stream:
        """Complete a prompt piece by piece. Raises like ``generate``, at once."""
        ids = self._texts.prompts.encode(prompt)
        return Stream(self._client, self._client.submit(ids, params or self.default_params, options))

    def chat(
        self,
        messages: Sequence[Message],
        params: SamplingParams | None = None,
        *,
        options: RequestOptions | None = None,
    ) -> Completion:
        """Answer a conversation, which ends with the user's message. Raises like ``chat_stream``."""
        return join_chunks(self.chat_stream(messages, params, options=options))

    def chat_stream(
        self,
        messages: Sequence[Message],
        params: SamplingParams | None = None,
        *,
        options: RequestOptions | None = None,
    ) -> Stream:
        """Answer a conversation piece by piece. What earlier turns computed is found in the prefix cache.

        Raises TemplateError if the model has no chat template or it refuses the messages, and like ``generate``.
        """
        return self.stream(self.chat_prompt(messages), params, options=options)

    def stats(self) -> EngineStats:
        """What the engine has done and holds, at any moment and from any thread.

        Raises InvalidRequest for a model that does not generate.
        """
        return self._client.stats()

    def trace(self, observer: StepObserver) -> AbstractContextManager[None]:
        """Tell ``observer`` what each step does and where its time goes, for the length of a ``with`` block.

        It is called after the step, in the thread that ran it, and the next step waits for it. It may submit requests,
        but not wait for them; an error of it fails all that are under way. Entering and leaving wait for the step under
        way. Raises InvalidRequest for a model that does not generate.
        """
        return self._client.trace(observer)

    def score(self, prompts: str | Sequence[Prompt]) -> list[Score]:
        """Log-probabilities of the tokens of each text, without sampling; no ``[T, V]`` is ever held.

        Raises InvalidRequest for an empty prompt or bad ids, ContextLengthExceeded for a longer one than
        ``max_model_len``.
        """
        evaluator = self._generating.evaluator
        return evaluator.score([self._whole(p) for p in as_list(prompts, name="prompts")])

    def logits(self, prompt: Prompt) -> Iterator[Float32Array]:
        """Logits after each token of a prompt, in pieces ``[n, V]`` f32 that are the caller's to keep.

        Memory is bounded by a piece and the prompt's KV. Other requests run between two pieces. Raises like ``score``,
        before the first piece.
        """
        return self._generating.evaluator.logits(self._whole(prompt))

    def embed(
        self,
        texts: str | Sequence[Text],
        *,
        pooling: str | None = None,
        normalize: bool | None = None,
        max_length: int | None = None,
    ) -> Float32Array:
        """A vector for each text, ``[n, C]`` f32; the dot product of normalised ones is their cosine.

        A text is a string, a pair of strings, or token ids. ``pooling`` ("cls", "mean", "max", "last" or
        "mean_sqrt_len") and ``normalize`` None are what the checkpoint declares. Texts run packed, the longest first;
        what one gives does not depend on the others. More than ``max_length`` tokens are cut, with a TruncationWarning.

        Raises ContextLengthExceeded for a text that is longer than the checkpoint was made for, where ``max_length``
        does not say otherwise; InvalidRequest for an empty list of ids, an unknown id, or a model that generates.
        """
        wanted = as_list(texts, name="texts")
        return self._encoding.embed(wanted, pooling=pooling, normalize=normalize, max_length=max_length)

    @property
    def classifies_tokens(self) -> bool:
        """Whether the checkpoint has a trained classifier of tokens, for ``classify_tokens``."""
        classifier = self._model.config.classifier if isinstance(self._model, EncoderModel) else None
        return classifier is not None and classifier.is_per_token

    def classify(self, texts: str | Sequence[Text], *, max_length: int | None = None) -> list[Classification]:
        """The class of each text, by the checkpoint's trained classifier.

        Raises like ``embed``, and InvalidRequest for a model without a classifier of texts.
        """
        return self._encoding.classify(as_list(texts, name="texts"), max_length=max_length)

    def classify_tokens(
        self, texts: str | Sequence[Text], *, max_length: int | None = None
    ) -> list[list[LabeledToken]]:
        """The class of each token of each text, such as the names in it. Raises like ``classify``."""
        return self._encoding.classify_tokens(as_list(texts, name="texts"), max_length=max_length)

    def hidden_states(
        self, ids: Sequence[int] | Int32Array, token_type_ids: Sequence[int] | Int32Array | None = None
    ) -> tuple[Float32Array, Float32Array | None]:
        """An encoder's last rows ``[T, C]`` of one sequence, and its pooled row ``[C]`` if the checkpoint has a pooler.

        Raises InvalidRequest for no ids, unknown ones, or a model that generates; ContextLengthExceeded.
        """
        return self._encoding.hidden_states(ids, token_type_ids)

    def close(self) -> None:
        """Cancel what runs and let go of the model. A second time does nothing."""
        if isinstance(self._loaded.runtime, Encoder):
            self._loaded.runtime.close()
        else:
            self._client.close()
        self._loaded.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def require(self, *, is_encoder: bool) -> None:
        """Raise InvalidRequest for a model of the other kind: an encoder, or one that generates."""
        _ = self._encoding if is_encoder else self._generating

    @property
    def _generating(self) -> Generator:
        if self._generator is None:
            raise not_a_decoder(self._model)
        return self._generator

    @property
    def _client(self) -> LocalClient:
        return self._generating.client

    @property
    def _encoding(self) -> TextEncoder:
        if self._text_encoder is None:
            raise InvalidRequest(
                f"model: expected an encoder, got {self._model.config.architecture}, which generates", param="model"
            )
        return self._text_encoder

    def _whole(self, prompt: Prompt) -> Int32Array:
        ids = self._texts.prompts.encode(prompt)
        return check_length(ids, self._loaded.runtime.limits.max_model_len, name="prompt")
