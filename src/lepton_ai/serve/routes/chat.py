"""``/v1/chat/completions``."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lepton_ai.engine.outputs import TokenLogprob, Usage
from lepton_ai.engine.stream import Stream
from lepton_ai.serve.errors import json_response
from lepton_ai.serve.protocol.answers import Head, chat_choice, chat_end, chat_piece, chat_start, usage_of
from lepton_ai.serve.protocol.chat import ChatRequest
from lepton_ai.serve.protocol.logprobs import Logprobs, LogprobsWriter
from lepton_ai.serve.served_model import ServedModel
from lepton_ai.serve.service import cancel_all, merged, new_id, service_of, while_connected
from lepton_ai.serve.sse import DONE, EventStream, event

router = APIRouter()


@router.post("/v1/chat/completions")
async def chat_completions(body: ChatRequest, request: Request) -> Response:
    """Answer a conversation, whole or as a stream of events."""
    service = service_of(request)
    model = service.model(body.model)
    params = body.params(model.default_params)
    ids = model.chat_prompt(body.template_messages())
    options = service.options(request, user=body.user, priority=body.priority)
    if body.is_streamed:
        streams = await model.streams(ids, params, options)
        head = Head(new_id("chatcmpl"), "chat.completion.chunk", int(time.time()), body.model)
        events = _events(model, streams, head, includes_usage=body.includes_usage)
        return EventStream(events, lambda: cancel_all(streams))
    completions = await while_connected(request, model.generate(ids, params, options))
    head = Head(new_id("chatcmpl"), "chat.completion", int(time.time()), body.model)
    choices = [chat_choice(i, each, _logprobs(model, each.logprobs)) for i, each in enumerate(completions)]
    return json_response(head.answer(choices, usage_of([[each.usage for each in completions]])))


async def _events(
    model: ServedModel, streams: Sequence[Stream], head: Head, *, includes_usage: bool
) -> AsyncGenerator[bytes, None]:
    usages: list[Usage] = []
    for index in range(len(streams)):
        yield event(head.piece([chat_start(index)]))
    async for index, chunk in merged(streams):
        if chunk.text or chunk.logprobs:
            yield event(head.piece([chat_piece(index, chunk, _logprobs(model, chunk.logprobs))]))
        if chunk.finish_reason is not None and chunk.usage is not None:
            usages.append(chunk.usage)
            yield event(head.piece([chat_end(index, chunk.finish_reason)]))
    if includes_usage:
        yield event(head.piece([], usage_of([usages])))
    yield DONE


def _logprobs(model: ServedModel, entries: Sequence[TokenLogprob] | None) -> Logprobs | None:
    return None if entries is None else LogprobsWriter(model.tokenizer).chat(entries)
