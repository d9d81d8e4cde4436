"""``lepton run``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from lepton_ai.cli.answer import take_answer, write_text
from lepton_ai.cli.chat_loop import ChatLoop
from lepton_ai.cli.loading import open_llm
from lepton_ai.cli.options import AllowConfigKeys, Json, KVDType, KVMemory, ModelName, PolicyOption, Threads, Timing
from lepton_ai.cli.output import print_json, print_note
from lepton_ai.cli.timing import StartTiming
from lepton_ai.config import Policy
from lepton_ai.engine.llm import LLM
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.stream import Stream
from lepton_ai.errors import InvalidRequest

Prompt = Annotated[
    str | None, typer.Option("--prompt", "-p", help="Answer this and exit; - reads it from standard input.")
]
System = Annotated[str | None, typer.Option("--system", help="The system message of the conversation.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", "-n", help="Most tokens of an answer.")]
Temperature = Annotated[float, typer.Option("--temperature", help="0 always takes the likeliest token.")]
TopP = Annotated[float, typer.Option("--top-p", help="Draw from the likeliest tokens of this total probability.")]
TopK = Annotated[int, typer.Option("--top-k", help="Draw from this many likeliest tokens; 0: from all.")]
MinP = Annotated[float, typer.Option("--min-p", help="Leave out tokens less likely than this share of the likeliest.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Makes answers repeatable.")]
Stop = Annotated[list[str] | None, typer.Option("--stop", help="End an answer before this text. May be repeated.")]
Raw = Annotated[bool, typer.Option("--raw", help="Continue the text as it is, without the chat template.")]


def run(
    model: ModelName,
    *,
    prompt: Prompt = None,
    system: System = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = 0.7,
    top_p: TopP = 0.95,
    top_k: TopK = 0,
    min_p: MinP = 0.0,
    seed: Seed = None,
    stop: Stop = None,
    raw: Raw = False,
    threads: Threads = None,
    policy: PolicyOption = Policy.AUTO,
    kv_dtype: KVDType = None,
    kv_memory: KVMemory = None,
    allow_config_key: AllowConfigKeys = None,
    timing: Timing = False,
    json: Json = False,
) -> None:
    """Talk to a model. Ctrl-C stops an answer; /help lists what else can be typed.

    \b
    Examples:
      lepton run smollm2
      lepton run smollm2 --prompt "Why is the sky blue?" --max-tokens 100
    """
    start = StartTiming(is_wanted=timing)
    params = SamplingParams(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        seed=seed,
        stop=stop or (),
        max_tokens=max_tokens,
    )
    for name, is_given in (("json", json), ("timing", timing)):
        if is_given and prompt is None:
            raise InvalidRequest(f"--{name}: expected it with --prompt", param=name)
    if raw and system is not None:
        raise InvalidRequest("--system: expected no system message with --raw", param="system")
    text = _read_prompt(prompt)
    with open_llm(
        model,
        threads=threads,
        policy=policy,
        max_num_seqs=1,
        kv_dtype=kv_dtype,
        kv_memory_bytes=kv_memory,
        allow_config_keys=allow_config_key,
        on_phase=start.observer,
    ) as llm:
        if not llm.has_chat_template and not raw:
            raw = _continue_texts(system)
        if text is None:
            ChatLoop(llm, params, system=system, is_raw=raw).run()
        else:
            _answer_once(llm, _Question(text, system, params, is_raw=raw), start, wants_json=json)


def _read_prompt(prompt: str | None) -> str | None:
    text = sys.stdin.read() if prompt == "-" else prompt
    if text is not None and not text.strip():
        raise InvalidRequest("--prompt: expected some text, got none", param="prompt")
    return text


def _continue_texts(system: str | None) -> bool:
    """A base model knows no conversation: say so, and go on as with --raw."""
    if system is not None:
        raise InvalidRequest("--system: expected no system message, as this model has no chat template", param="system")
    print_note("this model has no chat template: it continues the text")
    return True


@dataclass(frozen=True, slots=True)
class _Question:
    prompt: str
    system: str | None
    params: SamplingParams
    is_raw: bool

    def ask(self, llm: LLM) -> Stream:
        if self.is_raw:
            return llm.stream(self.prompt, self.params)
        system_messages = [] if self.system is None else [{"role": "system", "content": self.system}]
        return llm.chat_stream([*system_messages, {"role": "user", "content": self.prompt}], self.params)


def _answer_once(llm: LLM, question: _Question, timing: StartTiming, *, wants_json: bool) -> None:
    def ask() -> Stream:
        with timing.phase("prompt"):
            return question.ask(llm)

    answer = take_answer(ask, _write_nothing if wants_json else write_text, timing.observer)
    if wants_json:
        times = {"timing": timing.to_json()} if timing.is_wanted else {}
        print_json({"model": llm.model_info.name, **answer.to_dict(), **times})
    else:
        write_text("\n")
        print_note(answer.summary())
        if timing.is_wanted:
            timing.print()
    if answer.completion.finish_reason == "cancelled":
        raise KeyboardInterrupt


def _write_nothing(text: str) -> None:
    pass
