"""The shapes of answers, for the document of the interface. Answers are written as plain dictionaries, which is faster;
tests hold them to these."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

FinishReason = Literal["stop", "length", "cancelled", "tool_calls"]


class PromptTokensDetails(BaseModel):
    """``cached_tokens`` of the prompt were not computed again."""

    cached_tokens: int


class Usage(BaseModel):
    """How many tokens there were."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class TokenProbability(BaseModel):
    """A token, what it spells, and its log-probability."""

    token: str
    logprob: float
    bytes: list[int]


class ChosenToken(TokenProbability):
    """A token of an answer, and the likeliest in its place."""

    top_logprobs: list[TokenProbability]


class ChatLogprobs(BaseModel):
    """Log-probabilities of a chat's answer."""

    content: list[ChosenToken]
    refusal: None


class CalledFunction(BaseModel):
    """``arguments`` are JSON, as text."""

    name: str
    arguments: str


class CallOfTool(BaseModel):
    """A call of a tool. Its ``id`` is what a message with its result names."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(BaseModel):
    """What the model says. Its reasoning and calls are there if there are any."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str = ""
    tool_calls: list[CallOfTool] = []


class ChatChoice(BaseModel):
    """One answer of several."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    service_tier: Literal["default"] = "default"


class FunctionDelta(BaseModel):
    """The name comes once, arguments in pieces."""

    name: str = ""
    arguments: str = ""


class CallDelta(BaseModel):
    """A piece of the call ``index``; the first has its ``id``, type and name."""

    index: int
    id: str = ""
    type: Literal["function"] = "function"
    function: FunctionDelta


class Delta(BaseModel):
    """What a piece adds."""

    role: Literal["assistant"] = "assistant"
    content: str | None = ""
    refusal: None = None
    reasoning_content: str = ""
    tool_calls: list[CallDelta] = []


class ChatChunkChoice(BaseModel):
    """A piece of one answer of several."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatCompletionChunk(BaseModel):
    """A piece of a streamed answer; ``usage`` is in the last, which has no choices, if it was asked for."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    service_tier: Literal["default"] = "default"


class TextLogprobs(BaseModel):
    """Parallel lists, one item for each token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(BaseModel):
    """One continuation of several, or a piece of it, whose ``finish_reason`` is null but in the last."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


class TextCompletion(BaseModel):
    """Whole continuations, or a piece of a streamed one, which has the usage in the last piece if it was asked for."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | None = None


class Embedding(BaseModel):
    """A vector, as numbers or as the base64 of little-endian f32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """How many tokens the texts had."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """A vector for each text."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class Model(BaseModel):
    """A model that is served. ``max_model_len`` is its longest request, in tokens."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int


class ModelList(BaseModel):
    """All that is served."""

    object: Literal["list"]
    data: list[Model]


class Tokens(BaseModel):
    """The ids of a text."""

    tokens: list[int]
    count: int
    max_model_len: int


class Detokenized(BaseModel):
    """The text of some ids."""

    prompt: str


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Ready(BaseModel):
    """Whether work is taken: ``ready``, ``starting``, ``engine_restarting`` or ``draining``."""

    status: str
    models: list[str]


class TokenizerInfo(BaseModel):
    """Tokens that begin and end a text, null where a model has none."""

    bos_token: str | None
    eos_token: str | None
    vocab_size: int


class Version(BaseModel):
    """The version of Lepton."""

    version: str


class ErrorDetails(BaseModel):
    """What is wrong: for people, and for programs. ``param`` names the field, where one is wrong."""

    message: str
    type: str
    param: str | None
    code: str


class Error(BaseModel):
    """The body of every answer that is an error, and the event that ends a stream which fails."""

    error: ErrorDetails
