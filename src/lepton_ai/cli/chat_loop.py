"""The conversation of ``lepton run``: reads lines, streams answers, keeps the history."""

from __future__ import annotations

import contextlib
import sys

from lepton_ai.cli.answer import take_answer, write_text
from lepton_ai.cli.output import print_note
from lepton_ai.engine.llm import LLM
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.stream import Stream
from lepton_ai.errors import LeptonError

_HELP = "/reset forgets the conversation, /exit leaves, Ctrl-C stops an answer"


class ChatLoop:
    """Turns of a conversation, one line each. What earlier turns computed stays in the model's prefix cache.

    On a terminal, an error ends the turn; lines from a pipe are a script, and an error ends it.
    """

    def __init__(self, llm: LLM, params: SamplingParams, *, system: str | None, is_raw: bool) -> None:
        self._llm = llm
        self._params = params
        self._is_raw = is_raw
        self._system = [] if system is None else [{"role": "system", "content": system}]
        self._messages = list(self._system)
        self._is_terminal = sys.stdin.isatty() and sys.stdout.isatty()

    def run(self) -> None:
        """Until /exit or the end of input."""
        if self._is_terminal:
            with contextlib.suppress(ImportError):  # line editing; not every Python is built with it
                import readline  # noqa: F401
            print_note(f"{self._llm.model_info.name}: {_HELP}")
        while (line := self._read()) is not None and line != "/exit":
            match line:
                case "":
                    continue
                case "/help":
                    print_note(_HELP)
                case "/reset":
                    self._messages = list(self._system)
                    print_note("the conversation is forgotten")
                case _ if line.startswith("/"):
                    print_note(f"unknown command {line.split()[0]}: {_HELP}")
                case _:
                    self._take_turn(line)

    def _read(self) -> str | None:
        """The next line, None at the end of input. Ctrl-C at the prompt discards what was typed."""
        if not self._is_terminal:
            line = sys.stdin.readline()
            return line.strip() if line else None
        while True:
            try:
                return input("> ").strip()
            except EOFError:
                write_text("\n")
                return None
            except KeyboardInterrupt:
                write_text("\n")
                print_note("/exit leaves")

    def _take_turn(self, line: str) -> None:
        messages = [*self._messages, {"role": "user", "content": line}]

        def start() -> Stream:
            return (
                self._llm.stream(line, self._params) if self._is_raw else self._llm.chat_stream(messages, self._params)
            )

        try:
            answer = take_answer(start, write_text)
        except LeptonError as error:
            if not self._is_terminal:
                raise
            print_note(f"error: {error.message} [{error.code}]")
            return
        write_text("\n")
        if not self._is_raw:
            self._messages = [*messages, {"role": "assistant", "content": answer.completion.text}]
