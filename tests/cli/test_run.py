"""``lepton run`` on a tiny model."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.cli.conftest import Lepton
from tests.engine.published import published_gpt2
from tests.engine.tiny_gguf import tiny_gguf

from lepton_ai import LLM
from lepton_ai.cli import answer
from lepton_ai.engine.prompts import Message
from lepton_ai.engine.sampling_params import SamplingParams
from lepton_ai.engine.stream import Stream


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf"))


@pytest.fixture
def conversations(monkeypatch: pytest.MonkeyPatch) -> list[list[Message]]:
    """The messages of every answer that was asked for."""
    asked: list[list[Message]] = []
    chat_stream = LLM.chat_stream

    def record(self: LLM, messages: Sequence[Message], params: SamplingParams | None = None) -> Stream:
        asked.append(list(messages))
        return chat_stream(self, messages, params)

    monkeypatch.setattr(LLM, "chat_stream", record)
    return asked


def expected(model: str, **params: object) -> str:
    with LLM(model) as llm:
        messages = [{"role": "user", "content": "hello"}]
        return llm.chat(messages, SamplingParams(top_p=0.95, **params)).text  # type: ignore[arg-type]


def test_one_answer(lepton: Lepton, model: str) -> None:
    result = lepton("run", model, "--prompt", "hello", "--max-tokens", "20", "--seed", "1")
    assert result.status == 0
    assert result.out == expected(model, seed=1, max_tokens=20, temperature=0.7) + "\n"
    assert "tokens, time to first token 0." in result.err and result.err.rstrip().endswith("tokens/s")


def test_one_answer_as_json(lepton: Lepton, model: str) -> None:
    value = lepton("run", model, "--prompt", "hello", "--max-tokens", "5", "--temperature", "0", "--json").json()
    assert value["text"] == expected(model, max_tokens=5, temperature=0.0)
    assert (value["model"], value["completion_tokens"]) == (model, 5)
    assert isinstance(value["time_to_first_token_s"], float) and isinstance(value["decode_tokens_per_s"], float)


def test_options_of_the_cache(lepton: Lepton, model: str) -> None:
    options = ["--prompt", "hello", "--max-tokens", "20", "--temperature", "0", "--kv-dtype", "int8"]
    with LLM(model, kv_dtype="int8") as llm:
        params = SamplingParams(max_tokens=20, temperature=0.0, top_p=0.95)
        text = llm.chat([{"role": "user", "content": "hello"}], params).text
    assert lepton("run", model, *options, "--kv-memory", "1MiB").out == text + "\n"
    refused = lepton("run", model, *options, "--kv-memory", "1kB")
    assert refused.status == 1 and "kv_memory_bytes: " in refused.err


def test_options_reach_the_sampler(lepton: Lepton, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[SamplingParams | None] = []
    chat_stream = LLM.chat_stream

    def record(self: LLM, messages: Sequence[Message], params: SamplingParams | None = None) -> Stream:
        seen.append(params)
        return chat_stream(self, messages, params)

    monkeypatch.setattr(LLM, "chat_stream", record)
    options = [
        "--max-tokens",
        "3",
        "--temperature",
        "0.5",
        "--top-p",
        "0.8",
        "--top-k",
        "7",
        "--min-p",
        "0.1",
        "--seed",
        "9",
        "--stop",
        "ab",
        "--stop",
        "c",
    ]
    assert lepton("run", model, "--prompt", "hello", *options).status == 0
    assert seen == [
        SamplingParams(max_tokens=3, temperature=0.5, top_p=0.8, top_k=7, min_p=0.1, seed=9, stop=["ab", "c"])
    ]


def test_raw_text_from_standard_input(lepton: Lepton, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("two\nlines"))
    result = lepton("run", model, "--prompt", "-", "--raw", "--max-tokens", "8", "--temperature", "0")
    with LLM(model) as llm:
        (completion,) = llm.generate("two\nlines", SamplingParams(temperature=0.0, max_tokens=8))
    assert result.out == completion.text + "\n"


@pytest.mark.parametrize("prompt", ["", " \n", "-"])
def test_an_empty_prompt_is_refused(lepton: Lepton, model: str, monkeypatch: pytest.MonkeyPatch, prompt: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    result = lepton("run", model, "--prompt", prompt)
    assert result.status != 0 and not result.out and "--prompt" in result.err and "[invalid_request]" in result.err


def test_a_conversation_from_a_pipe(
    lepton: Lepton, model: str, conversations: list[list[Message]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\ntwo\n/help\n/nonsense\n/reset\nthree\n/exit\nfour\n"))
    result = lepton("run", model, "--system", "be kind", "--max-tokens", "4", "--temperature", "0")
    assert result.status == 0 and ">" not in result.err
    roles = [[message["role"] for message in messages] for messages in conversations]
    assert roles == [["system", "user"], ["system", "user", "assistant", "user"], ["system", "user"]]
    first = conversations[1][2]["content"]
    assert isinstance(first, str) and result.out.startswith(first + "\n")
    assert [m["content"] for m in conversations[2]] == ["be kind", "three"]
    assert "unknown command /nonsense" in result.err and "/reset forgets" in result.err


def test_an_error_ends_a_script(lepton: Lepton, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("x" * 300 + "\n"))
    result = lepton("run", model)
    assert result.status == 1 and "[context_length_exceeded]" in result.err


def test_ctrl_c_stops_the_answer(lepton: Lepton, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, written = signal.getsignal(signal.SIGINT), answer.write_text

    def interrupt(text: str) -> None:
        written(text)
        if text != "\n":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("lepton_ai.cli.run.write_text", interrupt)
    result = lepton("run", model, "--prompt", "hello", "--seed", "1")
    assert result.status == 130
    assert 1 <= len(result.out) < 10 and "time to first token" in result.err
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_in_a_conversation_ends_the_turn_alone(
    lepton: Lepton, model: str, conversations: list[list[Message]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n"))
    interrupted: list[int] = []

    def interrupt(text: str) -> None:
        """Once in each turn, for a second one would end the conversation, and what was computed may still come."""
        if text != "\n" and len(interrupted) < len(conversations):
            interrupted.append(len(conversations))
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("lepton_ai.cli.chat_loop.write_text", interrupt)
    assert lepton("run", model).status == 0
    assert interrupted == [1, 2]


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        (["--temperature", "nan", "--prompt", "x"], 2, "temperature: expected a number"),
        (["--json"], 2, "--json: expected it with --prompt"),
        (["--raw", "--system", "x", "--prompt", "x"], 2, "--system: expected no system message with --raw"),
        (["--max-tokens", "1000", "--prompt", "x"], 1, "[context_length_exceeded]"),
        (["--raw", "--prompt", ""], 2, "--prompt: expected some text"),
        (["--policy", "fastest", "--prompt", "x"], 2, "fastest"),
    ],
)
def test_bad_arguments(lepton: Lepton, model: str, options: list[str], status: int, code: str) -> None:
    result = lepton("run", model, *options)
    assert result.status == status and code in result.err + result.out


def test_no_such_model(lepton: Lepton, tmp_path: Path) -> None:
    result = lepton("run", str(tmp_path / "absent.gguf"), "--prompt", "x")
    assert result.status == 1 and "[model_not_found]" in result.err


def test_a_terminal_gets_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, pipe = Terminal(), io.StringIO()
    for stdout in (terminal, pipe):
        monkeypatch.setattr("sys.stdout", stdout)
        answer.write_text("é\x1b[2J\n\tz")
    assert terminal.getvalue() == "é\ufffd[2J\n\tz"
    assert pipe.getvalue() == "é\x1b[2J\n\tz"


def test_an_answer_stopped_in_its_prompt_has_no_times(model: str) -> None:
    def start() -> Stream:
        stream = llm.chat_stream([{"role": "user", "content": "x"}])
        stream.cancel()
        return stream

    with LLM(model) as llm:
        stopped = answer.take_answer(start, lambda text: None)
    assert stopped.summary() == "stopped before the first token"
    assert stopped.to_dict()["time_to_first_token_s"] is None


def test_a_config_key_that_is_vouched_for(lepton: Lepton, tmp_path: Path) -> None:
    folder = tmp_path / "gpt2"
    folder.mkdir()
    for name, content in published_gpt2().items():
        (folder / name).write_bytes(content)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rotary_share": 0.5}))
    command = ["run", str(folder), "--prompt", "x", "--max-tokens", "2", "--seed", "0", "--json"]
    error = lepton(*command).json()["error"]
    assert isinstance(error, dict) and error["code"] == "unsupported_model"
    assert "'rotary_share'" in error["message"] and "--allow-config-key" in error["message"]
    assert lepton(*command, "--allow-config-key", "rotary_share").status == 0
