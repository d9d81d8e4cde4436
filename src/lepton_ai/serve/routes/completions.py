"""``/v1/completions``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from itertools import chain

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lepton_ai.engine.outputs import Chunk, Completion, TokenLogprob, Usage
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.stream import Stream
from lepton_ai.serve.http.body import JsonRoute
from lepton_ai.serve.http.errors import json_response
from lepton_ai.serve.http.sse import EventStream
from lepton_ai.serve.protocol.answers import Head, Json, text_choice, usage_of
from lepton_ai.serve.protocol.base import Prompt
from lepton_ai.serve.protocol.completions import CompletionRequest
from lepton_ai.serve.protocol.events import DONE
from lepton_ai.serve.protocol.logprobs import LogprobsWriter
from lepton_ai.serve.served_model import ServedModel
from lepton_ai.serve.service import cancel_all, merged, naming_constraint, new_id, service_of, while_connected

router = APIRouter(route_class=JsonRoute)


@router.post("/v1/completions")
async def completions(body: CompletionRequest, request: Request) -> Response:
    """Continue texts, whole or as a stream of events."""
    service = service_of(request)
    model = service.model(body.model)
    params = body.params(model.default_params)
    caller = service.caller(request, user=body.user, priority=body.priority)
    caller.tally.begin(body.model, is_streamed=body.is_streamed)
    head = Head(new_id("cmpl"), "text_completion", int(time.time()), body.model, has_usage=body.includes_usage)
    if body.is_streamed:
        with naming_constraint("response_format"):
            opened = await model.streams_each(body.prompts, params, caller)
        echoes = await _echoes(model, body)
        events = _events(model, opened, echoes, head, params, includes_usage=body.includes_usage)
        return EventStream(events, lambda: cancel_all(chain.from_iterable(opened)))
    with naming_constraint("response_format"):
        made = await while_connected(request, model.generate_each(body.prompts, params, caller))
    choices = await asyncio.to_thread(_choices, model, made, params, await _echoes(model, body))
    usage = usage_of([[each.usage for each in group] for group in made])
    return json_response(head.answer(choices, usage))


async def _echoes(model: ServedModel, body: CompletionRequest) -> list[_Echo | None]:
    """To be asked for once the prompts were let in: they are cut into tokens."""
    return [await asyncio.to_thread(_Echo, model, prompt) if body.echo else None for prompt in body.prompts]


class _Echo:
    """A prompt that is given back before its continuation."""

    def __init__(self, model: ServedModel, prompt: Prompt) -> None:
        self.ids = model.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        self.text = prompt if isinstance(prompt, str) else model.tokenizer.decode(prompt)


def _choices(
    model: ServedModel, made: Sequence[Sequence[Completion]], params: SamplingParams, echoes: Sequence[_Echo | None]
) -> list[Json]:
    choices: list[Json] = []
    for echo, group in zip(echoes, made, strict=True):
        choices += [_whole(model, len(choices) + i, each, params, echo) for i, each in enumerate(group)]
    return choices


def _whole(model: ServedModel, index: int, completion: Completion, params: SamplingParams, echo: _Echo | None) -> Json:
    text = completion.text if echo is None else echo.text + completion.text
    logprobs = None
    if params.logprobs is not None:
        entries = [(e.token_id, e) for e in completion.logprobs or ()]
        logprobs = LogprobsWriter(model.tokenizer).completion([*_of_prompt(echo, completion.prompt_logprobs), *entries])
    return text_choice(index, text, logprobs, completion.finish_reason)


def _of_prompt(
    echo: _Echo | None, known: Sequence[TokenLogprob | None] | None
) -> list[tuple[int, TokenLogprob | None]]:
    return [] if echo is None or known is None else list(zip(echo.ids, known, strict=True))


async def _events(
    model: ServedModel,
    opened: Sequence[Sequence[Stream]],
    echoes: Sequence[_Echo | None],
    head: Head,
    params: SamplingParams,
    *,
    includes_usage: bool,
) -> AsyncGenerator[bytes, None]:
    group_of = [group for group, streams in enumerate(opened) for _ in streams]
    usages: list[list[Usage]] = [[] for _ in opened]
    writers = [_PieceWriter(model, params, echoes[group]) for group in group_of]
    async for index, chunk in merged([stream for streams in opened for stream in streams]):
        write = writers[index].piece
        has_prompt = chunk.prompt_logprobs is not None
        if piece := await asyncio.to_thread(write, index, chunk) if has_prompt else write(index, chunk):
            yield head.event([piece])
        if chunk.usage is not None:
            usages[group_of[index]].append(chunk.usage)
    if includes_usage:
        yield head.event([], usage_of(usages))
    yield DONE


class _PieceWriter:
    """Pieces of one choice; the first has the prompt if it is echoed."""

    def __init__(self, model: ServedModel, params: SamplingParams, echo: _Echo | None) -> None:
        self._logprobs = None if params.logprobs is None else LogprobsWriter(model.tokenizer)
        self._echo = echo
        self._offset = 0

    def piece(self, index: int, chunk: Chunk) -> Json | None:
        """What there is to say of a chunk, None if nothing."""
        echo, self._echo = self._echo, None
        text = chunk.text if echo is None else echo.text + chunk.text
        if not text and chunk.finish_reason is None and not chunk.logprobs:
            return None
        logprobs = None
        if self._logprobs is not None:
            entries = [*_of_prompt(echo, chunk.prompt_logprobs), *((e.token_id, e) for e in chunk.logprobs or ())]
            logprobs = self._logprobs.completion(entries, self._offset)
        self._offset += len(text)
        return text_choice(index, text, logprobs, chunk.finish_reason)
