"""``lepton bench serve``."""

from __future__ import annotations

import asyncio
import platform
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from lepton_ai.cli.load_chart import check_plot_path, draw_chart, write_plot
from lepton_ai.cli.load_table import print_benchmark
from lepton_ai.cli.measuring import measuring
from lepton_ai.cli.options import Json
from lepton_ai.cli.output import print_json
from lepton_ai.config import Environment
from lepton_ai.errors import InvalidRequest
from lepton_ai.loadgen.address import Address
from lepton_ai.loadgen.benchmark import Benchmark, FilePrompts, Plan, run_benchmark
from lepton_ai.loadgen.lengths import Lengths
from lepton_ai.loadgen.objectives import Objectives
from lepton_ai.loadgen.prompt_file import read_prompts
from lepton_ai.loadgen.run import Load
from lepton_ai.loadgen.synthetic import Shape
from lepton_ai.version import __version__

_PROMPT_TOKENS, _OUTPUT_TOKENS, _CLIENTS = "128", "64", "1"
_PER_CLIENT, _AT_LEAST, _ARRIVALS = 4, 16, 100

NumberT = TypeVar("NumberT", int, float)

Url = Annotated[str, typer.Argument(metavar="URL", help="Where the server is, such as http://127.0.0.1:8000.")]
Model = Annotated[str | None, typer.Option("--model", help="Model to ask. Default: the first that the server names.")]
Clients = Annotated[
    str | None,
    typer.Option(
        "--clients",
        metavar="N,N,...",
        help="Closed loop: so many clients, each of which waits for its answer. Default: 1.",
    ),
]
Rate = Annotated[
    str | None,
    typer.Option(
        "--rate",
        metavar="R,R,...",
        help="Open loop: so many requests a second, at random times, that wait for nothing.",
    ),
]
Requests = Annotated[
    int | None,
    typer.Option(
        "--requests", min=1, help="Requests for each row. Default: 4 a client, at least 16; 100 of an open loop."
    ),
]
Duration = Annotated[
    float | None, typer.Option("--duration", min=0.1, help="Instead, seconds in which requests begin, for each row.")
]
Warmup = Annotated[int, typer.Option("--warmup", min=1, help="Requests before the first row, which count for nothing.")]
PromptTokens = Annotated[
    str | None,
    typer.Option("--prompt-tokens", metavar="N|N:M", help="Tokens of each prompt, or a range of them. Default: 128."),
]
OutputTokens = Annotated[
    str | None,
    typer.Option(
        "--output-tokens",
        metavar="N|N:M",
        help="Tokens of each answer, or a range; in a file, of lines that do not say. Default: 64.",
    ),
]
SharedPrefix = Annotated[
    int, typer.Option("--shared-prefix-tokens", min=0, help="Tokens of each prompt that are the same in all.")
]
Chat = Annotated[bool, typer.Option("--chat", help="Send texts of about as many tokens as chats, not ids.")]
Prompts = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        help="Prompts: texts, one a line, or JSON lines with messages or prompt, and max_tokens.",
    ),
]
IgnoreEos = Annotated[
    bool | None,
    typer.Option(
        "--ignore-eos/--no-ignore-eos",
        help="Ask for answers as long as they may be. Default: yes, but for prompts of a file.",
        show_default=False,
    ),
]
Slo = Annotated[
    str | None,
    typer.Option("--slo", metavar="LIMITS", help="Count requests that keep these: ttft=500ms,tpot=50ms,latency=10s."),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed", min=0, help="Of lengths, prompts and arrivals. Default: a new one, so that no prompt is cached yet."
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds after which an answer has failed.")]
Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw waits and rates as a picture, a .svg.")]


def bench_serve(
    url: Url,
    *,
    model: Model = None,
    clients: Clients = None,
    rate: Rate = None,
    requests: Requests = None,
    duration: Duration = None,
    warmup: Warmup = 1,
    prompt_tokens: PromptTokens = None,
    output_tokens: OutputTokens = None,
    shared_prefix_tokens: SharedPrefix = 0,
    chat: Chat = False,
    prompts: Prompts = None,
    ignore_eos: IgnoreEos = None,
    slo: Slo = None,
    seed: Seed = None,
    timeout: Timeout = 600.0,
    plot: Plot = None,
    json: Json = False,
) -> None:
    """Measure a server of OpenAI's interface under load: rates, and how long its clients wait.

    Each number of clients, or each rate, is a row. Waits count from when a request was to be sent. Tokens are as the
    server counted them. Each request carries the key in LEPTON_API_KEY, if there is one.

    \b
    Examples:
      lepton bench serve http://127.0.0.1:8000 --clients 1,4,16,64
      lepton bench serve http://127.0.0.1:8000 --rate 0.5,1,2 --duration 60 --slo ttft=1s,tpot=100ms --plot load.svg
      lepton bench serve https://example.com/v1 --model tiny --prompts questions.txt
    """
    if plot is not None:
        check_plot_path(plot)
    plan = Plan(
        address=Address.parse(url),
        source=_source(
            prompts,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            shared_prefix_tokens=shared_prefix_tokens,
            is_chat=chat,
            ignore_eos=ignore_eos,
        ),
        loads=_loads(clients, rate, requests=requests, duration=duration),
        seed=secrets.randbits(32) if seed is None else seed,
        model=model,
        api_key=Environment.read().api_key,
        num_warmup=warmup,
        timeout_s=timeout,
        objectives=None if slo is None else Objectives.parse(slo),
    )
    benchmark = asyncio.run(run_benchmark(plan, measuring(counts=True)))
    _show(plan, benchmark, plot=plot, is_json=json)
    if not all(row.num_answered for row in benchmark.reports):
        raise typer.Exit(1)  # a row without an answer is no measurement


def _source(
    prompts: Path | None,
    *,
    prompt_tokens: str | None,
    output_tokens: str | None,
    shared_prefix_tokens: int,
    is_chat: bool,
    ignore_eos: bool | None,
) -> Shape | FilePrompts:
    """What prompts are. Raises InvalidRequest for options that do not go together."""
    output = Lengths.parse(output_tokens or _OUTPUT_TOKENS, "output-tokens")
    if prompts is None:
        return Shape(
            prompt_tokens=Lengths.parse(prompt_tokens or _PROMPT_TOKENS, "prompt-tokens"),
            output_tokens=output,
            shared_prefix_tokens=shared_prefix_tokens,
            is_chat=is_chat,
            ignore_eos=ignore_eos is not False,
        )
    given = {"prompt-tokens": prompt_tokens, "shared-prefix-tokens": shared_prefix_tokens, "chat": is_chat}
    for name, value in given.items():
        if value:
            raise InvalidRequest(f"--{name}: expected none with --prompts", param=name.replace("-", "_"))
    return FilePrompts(read_prompts(prompts), output, ignore_eos=bool(ignore_eos))


def _loads(clients: str | None, rate: str | None, *, requests: int | None, duration: float | None) -> Sequence[Load]:
    """A load for each row. Raises InvalidRequest."""
    if clients is not None and rate is not None:
        raise InvalidRequest("--rate: expected none with --clients", param="rate")
    if requests is not None and duration is not None:
        raise InvalidRequest("--duration: expected none with --requests", param="duration")
    if rate is not None:
        num_requests = None if duration is not None else requests or _ARRIVALS
        return [
            Load(rate_per_s=each, num_requests=num_requests, duration_s=duration)
            for each in _numbers(
                rate, r"\d{1,6}(?:\.\d{1,6})?", float, expected="--rate: expected numbers such as 0.5,1,2"
            )
        ]
    counts = _numbers(clients or _CLIENTS, r"\d{1,5}", int, expected="--clients: expected numbers such as 1,4,16")
    return [
        Load(
            clients=each,
            num_requests=None if duration is not None else requests or max(_PER_CLIENT * each, _AT_LEAST),
            duration_s=duration,
        )
        for each in counts
    ]


def _numbers(text: str, pattern: str, kind: Callable[[str], NumberT], *, expected: str) -> list[NumberT]:
    """Several, each above zero and there once."""
    parts = [part.strip() for part in text.split(",")]
    numbers = [kind(part) for part in parts if re.fullmatch(pattern, part, re.ASCII)]
    if len(numbers) < len(parts) or not all(numbers) or len(set(numbers)) < len(numbers):
        raise InvalidRequest(f"{expected}, each once, got {text!r:.40}", param=expected[2:].partition(":")[0])
    return numbers


def _show(plan: Plan, benchmark: Benchmark, *, plot: Path | None, is_json: bool) -> None:
    if plot is not None:
        write_plot(plot, draw_chart(benchmark))
    if is_json:
        print_json(_to_dict(plan, benchmark))
    else:
        print_benchmark(benchmark)


def _to_dict(plan: Plan, benchmark: Benchmark) -> dict[str, object]:
    """All figures, and how they came about."""
    source = plan.source
    if isinstance(source, Shape):
        workload: dict[str, object] = {
            "prompt_tokens": str(source.prompt_tokens),
            "shared_prefix_tokens": source.shared_prefix_tokens,
        }
    else:
        workload = {"num_prompts": len(source.prompts)}
    return {
        "url": plan.address.url,
        "model": benchmark.model,
        "server_version": benchmark.server_version,
        "settings": {
            "prompts": benchmark.prompt_form,
            **workload,
            "output_tokens": str(source.output_tokens),
            "ignore_eos": source.ignore_eos,
            "seed": plan.seed,
            "num_warmup": plan.num_warmup,
            "timeout_s": plan.timeout_s,
            "objectives": None if plan.objectives is None else asdict(plan.objectives),
        },
        "client": _client_facts(),
        "rows": [row.to_dict() for row in benchmark.reports],
    }


def _client_facts() -> dict[str, object]:
    """The machine that asked, which is the server's own if it is asked by a loopback address."""
    from lepton_ai.cli.machine import read_memory, read_processor

    processor = read_processor()
    return {
        "processor": processor.name,
        "num_cores": processor.num_allowed_cores,
        "memory_bytes": read_memory().total_bytes,
        "lepton": __version__,
        "python": platform.python_version(),
        "ended_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
