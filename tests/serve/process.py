"""``lepton serve`` in a process of its own, with faults that a test asks for."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

DEADLINE_S = 60.0

# A prompt that has one of these words fails so, and the exception says what the prompt was.
_FAULTY = """
import asyncio, os, sys
from lepton_ai.cli.main import main
from lepton_ai.serve.routes import chat
from lepton_ai.serve.served_model import ServedModel

really_prompt, really_piece = ServedModel.chat_prompt, chat.chat_piece

async def fail(text):
    raise RuntimeError(f"cannot do {text}")

def chat_prompt(self, messages, **more):
    text = str(messages)
    if "EXPLODE" in text:
        raise RuntimeError(f"cannot take {text}") from ValueError(text)
    if "FORGET" in text:
        asyncio.ensure_future(fail(text))
    chat.chat_piece = explode if "LATER" in text else really_piece
    return really_prompt(self, messages, **more)

def explode(index, chunk, *more):
    raise RuntimeError(f"cannot send {chunk} of LATER PROMPT-SECRET")

ServedModel.chat_prompt = chat_prompt
status = main(sys.argv[1:])
sys.stdout.flush(); sys.stderr.flush()
os._exit(status)
"""


class ServerProcess:
    """``url`` is where it listens, ``written`` all that it wrote on both of its standard streams until now."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _FAULTY, "serve", *arguments, "--port", str(port), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.wait_for('"url"')
        self.url = str(json.loads(next(line for line in self._lines if '"url"' in line))["url"])

    @property
    def written(self) -> str:
        """Both streams, as they were written."""
        return "".join(self._lines)

    def wait_for(self, text: str) -> None:
        """Until it has written this. Fails if that does not come, or the process ends."""
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.written:
            assert self._process.poll() is None and time.monotonic() < deadline, self.written
            time.sleep(0.01)

    def hang_up(self) -> None:
        """Send SIGHUP."""
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        """End it as an operator would. Returns its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(DEADLINE_S)
        finally:
            self._process.kill()
            self._reader.join(DEADLINE_S)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self._lines.append(line)


@contextmanager
def serving(arguments: Sequence[str], *, home: Path, api_key: str | None = None) -> Iterator[ServerProcess]:
    """A server for the length of a ``with`` block."""
    made = ServerProcess(arguments, {"LEPTON_HOME": str(home)} | ({"LEPTON_API_KEY": api_key} if api_key else {}))
    try:
        yield made
    finally:
        made.stop()
