"""Requests out of a file: prompts as people write them, line by line, over and over."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from lepton_ai.errors import InvalidRequest
from lepton_ai.loadgen.lengths import Lengths
from lepton_ai.loadgen.target import CHATS, COMPLETIONS, LoadRequest
from lepton_ai.loadgen.workload import chat_of, encode_request

_OURS = frozenset(("model", "stream", "stream_options", "ignore_eos"))
_SEVERAL = frozenset(("n", "best_of"))


@dataclass(frozen=True, slots=True)
class FilePrompt:
    """A line: the route, the fields of its body but for our own, and ``max_tokens``, None if it does not say."""

    path: str
    fields: Mapping[str, object]
    max_tokens: int | None


def read_prompts(path: Path) -> Sequence[FilePrompt]:
    """The prompts of a file: a text in each line, to be sent as a chat; or, if the first line begins with ``{``, an
    object with ``messages`` or ``prompt``, ``max_tokens``, and other fields of the interface. Raises InvalidRequest.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"--prompts: expected a file of texts: {path}: {error}", param="prompts") from None
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise InvalidRequest(f"--prompts: expected at least one line in {path}", param="prompts")
    if not numbered[0][1].lstrip().startswith("{"):
        return [FilePrompt(CHATS, {"messages": chat_of(line)}, None) for _, line in numbered]
    return [_read_object(line, f"{path}, line {number}") for number, line in numbered]


class FileWorkload:
    """The lines in their order, and again. ``output_tokens`` is for lines that do not say how many they want."""

    def __init__(
        self, model: str, prompts: Sequence[FilePrompt], output_tokens: Lengths, *, seed: int, ignore_eos: bool
    ) -> None:
        self._model = model
        self._prompts = prompts
        self._turn = itertools.cycle(prompts)
        self._output_tokens = output_tokens
        self._ignore_eos = ignore_eos
        self._rng = np.random.default_rng(seed)

    def next_request(self) -> LoadRequest:
        """The next line."""
        prompt = next(self._turn)
        drawn = self._output_tokens.draw(self._rng) if prompt.max_tokens is None else prompt.max_tokens
        return self._make(prompt, drawn)

    def largest_request(self) -> LoadRequest:
        """The line with the most text, and the most tokens that any asks for."""
        longest = max(self._prompts, key=lambda prompt: len(msgspec.json.encode(prompt.fields)))
        return self._make(longest, max(prompt.max_tokens or self._output_tokens.most for prompt in self._prompts))

    def _make(self, prompt: FilePrompt, max_tokens: int) -> LoadRequest:
        return encode_request(
            prompt.path, self._model, prompt.fields, max_tokens=max_tokens, ignore_eos=self._ignore_eos
        )


def _read_object(line: str, place: str) -> FilePrompt:
    try:
        value = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"--prompts: {place}: expected JSON: {error}", param="prompts") from None
    if not isinstance(value, dict) or ("messages" in value) == ("prompt" in value):
        raise InvalidRequest(f"--prompts: {place}: expected an object with messages or prompt", param="prompts")
    if given := sorted(_OURS & set(value)):
        raise InvalidRequest(f"--prompts: {place}: {given[0]}: expected none, it is an option's", param="prompts")
    if given := sorted(name for name in _SEVERAL & set(value) if value[name] != 1):
        raise InvalidRequest(f"--prompts: {place}: {given[0]}: expected one answer to a request", param="prompts")
    max_tokens = value.pop("max_tokens", None)
    if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
        raise InvalidRequest(f"--prompts: {place}: max_tokens: expected a positive integer", param="prompts")
    return FilePrompt(CHATS if "messages" in value else COMPLETIONS, value, max_tokens)
