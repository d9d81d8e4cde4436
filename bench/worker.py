"""The benchmark's side of a worker: a process with one engine and one model."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
import numpy.typing as npt

from bench.channel import Channel, ChannelClosed, Message
from bench.deadline import ANSWER_TIMEOUT_S, Deadline
from bench.serving import EngineInfo

ROOT = Path(__file__).resolve().parent.parent

MAX_IDLE_SHARE = 0.1
"""Of a core, by a worker that waits."""

_STOP_TIMEOUT_S = 10.0


class WorkerFailed(Exception):
    """A worker ended, or did not answer in time; the message says what it wrote last to standard error."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors ``[n, C]``, and the seconds that they took."""

    rows: npt.NDArray[np.float32]
    seconds: float


class Worker:
    """A running worker, whose engine is a ``serving.BenchEngine`` or a ``serving.EncoderEngine``: it answers what that
    one can do. Use it as a context manager. One that gives no answer within ``timeout_s`` is ended.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self._command = list(command)
        self._timeout_s = timeout_s
        self._is_late = False
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._last_words = ""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", **(environment or {})},
            cwd=ROOT,
        )
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        self._channel = Channel(stdout, stdin)
        hello = self._receive()
        self.info = EngineInfo(
            name=hello.text("name"),
            version=hello.text("version"),
            isa=hello.text("isa"),
            num_threads=hello.integer("num_threads"),
            fingerprint=hello.text("fingerprint"),
        )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def cpu_seconds(self) -> float:
        """Processor time that the process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def prefill(self, prompt: Sequence[int]) -> float:
        """Seconds from a prompt that was never seen to what follows it."""
        return self._ask({"op": "prefill", "prompts": [list(prompt)]}).number("seconds")

    def decode(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> float:
        """Seconds of ``num_tokens`` decoding steps of all prompts together."""
        request = {"op": "decode", "prompts": [list(prompt) for prompt in prompts], "num_tokens": num_tokens}
        return self._ask(request).number("seconds")

    def logits(self, token_ids: Sequence[int]) -> Iterator[npt.NDArray[np.float32]]:
        """Logits after each token, in pieces ``[n, V]``. Take them all before the next request."""
        message = self._ask({"op": "logits", "prompts": [list(token_ids)]})
        while message.payload:
            yield _rows(message)
            message = self._receive()

    def embed(self, sequences: Sequence[Sequence[int]], *, batch_size: int) -> Embedded:
        """Embed sequences of token ids in the order given, ``batch_size`` at a time."""
        prompts = [list(sequence) for sequence in sequences]
        message = self._ask({"op": "embed", "prompts": prompts, "batch_size": batch_size})
        return Embedded(_rows(message), message.number("seconds"))

    def close(self) -> None:
        """End the process."""
        if self._errors.closed:
            return
        with suppress(BrokenPipeError):
            self._channel.writer.close()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._channel.reader.close()
        self._last_words = _last_line(self._errors)
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: Mapping[str, object]) -> Message:
        if self._channel.writer.closed:
            raise self._failed()

        def exchange() -> Message:
            self._channel.send(request)
            return self._channel.receive()

        return self._in_time(exchange)

    def _receive(self) -> Message:
        return self._in_time(self._channel.receive)

    def _in_time(self, exchange: Callable[[], Message]) -> Message:
        with Deadline(self.pid, self._timeout_s) as deadline:
            try:
                return exchange()
            except ChannelClosed:
                self._is_late = deadline.has_passed
        raise self._failed()

    def _failed(self) -> WorkerFailed:
        self.close()
        command = " ".join([Path(self._command[0]).name, *self._command[1:3]])
        late = f"gave no answer within {self._timeout_s:g} s"
        ending = f"{command}: {late if self._is_late else f'ended with status {self._process.returncode}'}"
        return WorkerFailed(f"{ending}: {self._last_words}" if self._last_words else ending)


def idle_share(worker: Worker, *, seconds: float = 0.3) -> float:
    """Cores' worth of processor time that an idle worker uses: one that spins would slow down its neighbour."""
    before = worker.cpu_seconds()
    time.sleep(seconds)
    return (worker.cpu_seconds() - before) / seconds


def require_idle(workers: Iterable[Worker]) -> None:
    """Raise RuntimeError if a worker that waits uses the processor."""
    for worker in workers:
        share = idle_share(worker)
        if share > MAX_IDLE_SHARE:
            raise RuntimeError(f"{worker.info.name} uses {share:.2f} cores while idle and disturbs the other")


def _last_line(file: IO[bytes]) -> str:
    """The last one that is not blank."""
    file.seek(0)
    lines = file.read().decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _rows(message: Message) -> npt.NDArray[np.float32]:
    shape = message.fields["shape"]
    assert isinstance(shape, list)
    return np.frombuffer(message.payload, np.float32).reshape(shape)
