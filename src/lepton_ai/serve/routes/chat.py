"""``/v1/chat/completions``."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from lepton_ai.engine.constraints.answer_grammar import AnswerRules, CallChoice, answer_constraint
from lepton_ai.engine.outputs import TokenLogprob, Usage
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.stream import Stream
from lepton_ai.serve.caller import Caller
from lepton_ai.serve.chat_answers import AnswerPlan, answer_events, whole_answer
from lepton_ai.serve.http.body import JsonRoute
from lepton_ai.serve.http.errors import json_response
from lepton_ai.serve.http.sse import EventStream
from lepton_ai.serve.protocol.answers import (
    Head,
    Json,
    chat_choice,
    chat_end,
    chat_piece,
    chat_start,
    text_message,
    usage_of,
)
from lepton_ai.serve.protocol.chat import ChatRequest
from lepton_ai.serve.protocol.events import DONE
from lepton_ai.serve.protocol.logprobs import Logprobs, LogprobsWriter
from lepton_ai.serve.served_model import ServedModel
from lepton_ai.serve.service import cancel_all, merged, naming_constraint, new_id, service_of, while_connected
from lepton_ai.text.answer_format import AnswerFormat, Opening

router = APIRouter(route_class=JsonRoute)


@router.post("/v1/chat/completions")
async def chat_completions(body: ChatRequest, request: Request) -> Response:
    """Answer a conversation, whole or as a stream of events."""
    service = service_of(request)
    model = service.model(body.model)
    answers = model.prompts.answer_format
    rules = body.rules(answers)
    source = "tools" if rules.functions else "response_format"
    asked = body.conversation(answers, model.prompts.chat_variables)
    prompt = await model.chat_prompt(asked.messages, tools=asked.tools, variables=asked.variables)
    with naming_constraint(source):
        constraint = answer_constraint(rules, answers, prompt.opening)
    params = body.params(model.default_params, constraint)
    caller = service.caller(request, user=body.tenant, priority=body.priority)
    caller.tally.begin(body.model, is_streamed=body.is_streamed)
    plan = _plan(model, body, rules, answers, prompt.opening, params)
    params = params if plan is None else replace(params, stop=())
    if body.is_streamed:
        head = _head("chat.completion.chunk", body)
        with naming_constraint(source):
            streams = await model.streams(prompt.ids, params, caller)
        events = _events(model, streams, head) if plan is None else answer_events(plan, streams, head)
        return EventStream(events, lambda: cancel_all(streams))
    work = _whole(model, prompt.ids, params, caller, _head("chat.completion", body), plan)
    with naming_constraint(source):
        return json_response(await while_connected(request, work))


def _head(kind: str, body: ChatRequest) -> Head:
    tier = None if body.service_tier is None else "default"
    made = int(time.time())
    return Head(new_id("chatcmpl"), kind, made, body.model, has_usage=body.includes_usage, service_tier=tier)


def _plan(
    model: ServedModel,
    body: ChatRequest,
    rules: AnswerRules,
    answers: AnswerFormat,
    opening: Opening,
    params: SamplingParams,
) -> AnswerPlan | None:
    """How the answer is read; None where it is text alone."""
    calls = rules.functions and rules.choice is not CallChoice.NEVER
    occurring = AnswerFormat(
        tools=answers.tools if calls else None,
        reasoning=None if opening is Opening.AFTER_REASONING else answers.reasoning,
    )
    if occurring == AnswerFormat():
        return None
    return AnswerPlan(
        answers=occurring,
        opening=opening,
        # JSON of a schema may look like a call without marks.
        names=() if rules.schema else frozenset(function.name for function in rules.functions),
        stops=params.stop_strings,
        min_tokens=params.min_tokens,
        has_named_choice=body.has_named_choice,
        logprobs=None if params.logprobs is None else LogprobsWriter(model.tokenizer),
    )


async def _whole(
    model: ServedModel,
    ids: list[int],
    params: SamplingParams,
    caller: Caller,
    head: Head,
    plan: AnswerPlan | None,
) -> Json:
    if plan is not None:
        return await whole_answer(plan, await model.streams(ids, params, caller), head)
    completions = await model.generate(ids, params, caller)
    choices = [
        chat_choice(i, text_message(each), _logprobs(model, each.logprobs), each.finish_reason)
        for i, each in enumerate(completions)
    ]
    return head.answer(choices, usage_of([[each.usage for each in completions]]))


async def _events(model: ServedModel, streams: Sequence[Stream], head: Head) -> AsyncGenerator[bytes, None]:
    usages: list[Usage] = []
    for index in range(len(streams)):
        yield head.event([chat_start(index)])
    async for index, chunk in merged(streams):
        if chunk.text or chunk.logprobs:
            yield head.event([chat_piece(index, {"content": chunk.text}, _logprobs(model, chunk.logprobs))])
        if chunk.finish_reason is not None and chunk.usage is not None:
            usages.append(chunk.usage)
            yield head.event([chat_end(index, chunk.finish_reason)])
    if head.has_usage:
        yield head.event([], usage_of([usages]))
    yield DONE


def _logprobs(model: ServedModel, entries: Sequence[TokenLogprob] | None) -> Logprobs | None:
    return None if entries is None else LogprobsWriter(model.tokenizer).chat(entries)
