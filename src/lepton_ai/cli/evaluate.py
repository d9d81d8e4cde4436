"""``lepton eval``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from lepton_ai.backends.base import Int32Array
from lepton_ai.cli.loading import open_llm
from lepton_ai.cli.options import Json, KVDType, KVMemory, ModelName, PolicyOption, Threads
from lepton_ai.cli.output import print_json, print_line
from lepton_ai.config import Policy
from lepton_ai.engine.llm import LLM
from lepton_ai.engine.quality import DivergenceMeter, PerplexityMeter, log_softmax, of_targets
from lepton_ai.errors import InvalidRequest

WINDOW = 512
"""Tokens of a window, a BOS included; windows do not overlap."""

Text = Annotated[Path, typer.Option("--text", help="A text file in UTF-8.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", min=2, help="Use this many tokens of the text.")]
Against = Annotated[
    str | None,
    typer.Option("--against", metavar="POLICY|MODEL", help="The reference: this model under a policy, or a model."),
]


def evaluate(
    model: ModelName,
    *,
    text: Text,
    max_tokens: MaxTokens = None,
    against: Against = None,
    policy: PolicyOption = Policy.AUTO,
    kv_dtype: KVDType = None,
    kv_memory: KVMemory = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Measure perplexity on a text and, against a reference, KL(reference || model) in nats a token.

    The text is cut into windows of 512 tokens, each with a BOS in front if the model wants one. A MODEL given as
    reference runs under the policy exact. Its KV cache is always as its policy says.

    \b
    Examples:
      lepton eval smollm2 --text wiki.txt --max-tokens 20000 --against exact
      lepton eval small.gguf --text wiki.txt --against large.gguf
    """
    with ExitStack() as stack:
        llm = stack.enter_context(_open(model, policy, threads, kv_dtype=kv_dtype, kv_memory_bytes=kv_memory))
        windows = _windows(llm, _read(text), max_tokens)
        if against is None:
            result = _perplexity(llm, windows)
        else:
            reference = stack.enter_context(_open_reference(against, model, threads))
            _check_same_vocabulary(llm, reference)
            result = _compare(llm, reference, windows)
        info = llm.model_info
        result |= {"model": info.name, "digest": info.digest, "policy": policy.value, "kv_dtype": info.kv_dtype}
        result |= {"against": against, "num_threads": info.num_threads, "isa": info.isa}
    if json:
        print_json(result)
        return
    for name, value in result.items():
        print_line(f"{name:<16} {f'{value:.6g}' if isinstance(value, float) else value}")


def _open(
    model: str,
    policy: Policy,
    threads: int | None,
    *,
    kv_dtype: str | None = None,
    kv_memory_bytes: int | None = None,
) -> LLM:
    return open_llm(
        model,
        threads=threads,
        policy=policy,
        max_num_seqs=1,
        kv_dtype=kv_dtype,
        kv_memory_bytes=kv_memory_bytes,
    )


def _open_reference(against: str, model: str, threads: int | None) -> LLM:
    if against in {policy.value for policy in Policy}:
        return _open(model, Policy.parse(against), threads)
    return _open(against, Policy.EXACT, threads)


def _check_same_vocabulary(llm: LLM, reference: LLM) -> None:
    size, other = llm.model_info.vocab_size, reference.model_info.vocab_size
    if size != other:
        raise InvalidRequest(f"--against: expected a vocabulary of {size} tokens, got {other}", param="against")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"--text: cannot read {path}: {error.strerror}", param="text") from None


def _windows(llm: LLM, text: bytes, max_tokens: int | None) -> list[Int32Array]:
    """The windows of a text. A last one without a token to predict is left out."""
    tokenizer = llm.tokenizer
    ids = np.array(tokenizer.encode(text, add_special_tokens=False)[:max_tokens], np.int32)
    # What stands around an empty text is the BOS, if the model wants one, and perhaps an EOS.
    prefix = np.array([i for i in tokenizer.encode("")[:1] if i == tokenizer.bos_id], np.int32)
    step = min(WINDOW, llm.model_info.max_model_len) - len(prefix)
    windows = [np.concatenate([prefix, ids[start : start + step]]) for start in range(0, len(ids), step)]
    windows = [window for window in windows if len(window) > 1]
    if not windows:
        raise InvalidRequest("--text: expected a text of at least two tokens", param="text")
    return windows


def _perplexity(llm: LLM, windows: list[Int32Array]) -> dict[str, object]:
    perplexity = PerplexityMeter()
    for window in _with_progress(windows):
        (score,) = llm.score([window])
        perplexity.add(np.array(score.logprobs))
    return {"perplexity": perplexity.perplexity, "num_tokens": perplexity.num_tokens}


def _compare(llm: LLM, reference: LLM, windows: list[Int32Array]) -> dict[str, object]:
    """Both run piece by piece in turn, so that no more than a piece of logits of each is ever held."""
    perplexity, reference_perplexity, divergence = PerplexityMeter(), PerplexityMeter(), DivergenceMeter()
    for window in _with_progress(windows):
        start = 0
        for piece, reference_piece in zip(llm.logits(window), reference.logits(window), strict=True):
            targets = window[start + 1 : start + 1 + len(piece)]
            start += len(piece)
            if not len(targets):
                continue
            logprobs = log_softmax(piece[: len(targets)])
            expected = log_softmax(reference_piece[: len(targets)])
            perplexity.add(of_targets(logprobs, targets))
            reference_perplexity.add(of_targets(expected, targets))
            divergence.add(logprobs, expected)
    result = divergence.result()
    return {
        "perplexity": perplexity.perplexity,
        "reference_perplexity": reference_perplexity.perplexity,
        "kl_divergence": result.kl_divergence,
        "kl_p999": result.kl_p999,
        "top1_agreement": result.top1_agreement,
        "num_tokens": perplexity.num_tokens,
    }


def _with_progress(windows: list[Int32Array]) -> Iterator[Int32Array]:
    """The windows, with a bar and an estimate on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("tokens"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("tokens", total=sum(map(len, windows)))
        for window in windows:
            yield window
            bar.advance(task, len(window))
