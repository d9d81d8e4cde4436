"""The official client against a server: what it sees is what it would see of the original."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from tests.engine.published import SENTENCE_FILES, published_bert, write_files
from tests.engine.tiny_gguf import tiny_gguf
from tests.serve.running import Running, running

from lepton_ai import LLM, SamplingParams
from lepton_ai.serve.access import Key, KeyRing, digest, new_secret

MESSAGES: list[Any] = [{"role": "user", "content": "hello"}]
SECRET = new_secret()


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    encoder = write_files(folder / "bert", published_bert() | SENTENCE_FILES)
    return {"tiny": tiny_gguf(folder / "tiny.gguf"), "bert": encoder}


@pytest.fixture(scope="module")
def server(paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTON_HOME", str(tmp_path_factory.mktemp("home")))
        with running(paths, KeyRing([Key("me", digest(SECRET))])) as made:
            yield made


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=SECRET, max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def llm(paths: dict[str, Path], server: Running) -> Iterator[LLM]:
    with LLM(paths["tiny"], num_threads=1) as made:
        yield made


def test_a_chat(client: openai.OpenAI, llm: LLM) -> None:
    want = llm.chat(MESSAGES, SamplingParams(temperature=0.0, max_tokens=12))
    answer = client.chat.completions.create(model="tiny", messages=MESSAGES, temperature=0, max_tokens=12)
    (choice,) = answer.choices
    assert choice.message.content == want.text and choice.message.role == "assistant"
    assert choice.finish_reason == want.finish_reason
    assert answer.id.startswith("chatcmpl-") and answer.object == "chat.completion" and answer.model == "tiny"
    assert abs(answer.created - time.time()) < 60
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        want.usage.prompt_tokens,
        want.usage.completion_tokens,
    )
    assert answer.usage.total_tokens == want.usage.prompt_tokens + want.usage.completion_tokens


def test_a_streamed_chat(client: openai.OpenAI, llm: LLM) -> None:
    want = llm.chat(MESSAGES, SamplingParams(temperature=0.0, max_tokens=12))
    stream = client.chat.completions.create(
        model="tiny",
        messages=MESSAGES,
        temperature=0,
        max_completion_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    )
    first, *middle, last, usage = list(stream)
    assert first.choices[0].delta.role == "assistant" and first.choices[0].delta.content == ""
    assert "".join(c.choices[0].delta.content or "" for c in middle) == want.text
    assert [c.choices[0].finish_reason for c in (first, *middle)] == [None] * (len(middle) + 1)
    assert last.choices[0].finish_reason == want.finish_reason and last.choices[0].delta.content is None
    assert usage.choices == [] and usage.usage is not None
    assert usage.usage.completion_tokens == want.usage.completion_tokens
    assert len({c.id for c in (first, *middle, last, usage)}) == 1


def test_several_choices(client: openai.OpenAI, llm: LLM) -> None:
    params = SamplingParams(temperature=1.0, seed=5, max_tokens=6, n=3)
    want = [c.text for c in llm.generate([llm.chat_prompt(MESSAGES)], params)]
    asked: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "seed": 5, "max_tokens": 6, "n": 3}
    answer = client.chat.completions.create(**asked)
    assert [c.message.content for c in answer.choices] == want and [c.index for c in answer.choices] == [0, 1, 2]
    texts = ["", "", ""]
    ends = []
    for chunk in client.chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            ends += [choice.index] if choice.finish_reason else []
    assert texts == want and sorted(ends) == [0, 1, 2]


def test_log_probabilities(client: openai.OpenAI, llm: LLM) -> None:
    want = llm.chat(MESSAGES, SamplingParams(temperature=0.0, max_tokens=4, logprobs=2))
    answer = client.chat.completions.create(
        model="tiny", messages=MESSAGES, temperature=0, max_tokens=4, logprobs=True, top_logprobs=2
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None and want.logprobs is not None
    assert [e.logprob for e in logprobs.content] == pytest.approx([e.logprob for e in want.logprobs])
    for entry, known in zip(logprobs.content, want.logprobs, strict=True):
        assert bytes(entry.bytes or []) == llm.tokenizer.token_bytes(known.token_id)
        assert [t.logprob for t in entry.top_logprobs] == pytest.approx([p for _, p in known.top])


def test_stop_strings(client: openai.OpenAI, llm: LLM) -> None:
    whole = llm.chat(MESSAGES, SamplingParams(temperature=0.0, max_tokens=12)).text
    stop = whole[3:5]
    answer = client.chat.completions.create(
        model="tiny", messages=MESSAGES, temperature=0, max_tokens=12, stop=[stop, "\x01"]
    )
    assert answer.choices[0].message.content == whole[: whole.find(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_json_of_a_schema(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    answer = client.chat.completions.create(
        model="tiny",
        messages=MESSAGES,
        max_tokens=150,
        seed=1,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}},
    )
    assert answer.choices[0].finish_reason == "stop"
    assert json.loads(answer.choices[0].message.content or "")["a"] in (1, 2)


def test_completions(client: openai.OpenAI, llm: LLM) -> None:
    prompts = ["hello", "another"]
    want = llm.generate(prompts, SamplingParams(temperature=0.0, max_tokens=8))
    answer = client.completions.create(model="tiny", prompt=prompts, temperature=0, max_tokens=8)
    assert [c.text for c in answer.choices] == [c.text for c in want]
    assert [c.index for c in answer.choices] == [0, 1] and answer.object == "text_completion"
    assert answer.usage is not None and answer.usage.prompt_tokens == sum(c.usage.prompt_tokens for c in want)
    ids = llm.tokenizer.encode("hello")
    streamed = client.completions.create(model="tiny", prompt=ids, temperature=0, max_tokens=8, stream=True)
    assert "".join(c.choices[0].text for c in streamed) == want[0].text
    short = client.completions.create(model="tiny", prompt="x", temperature=0)
    assert short.usage is not None and short.usage.completion_tokens <= 16


def test_a_prompt_is_scored(client: openai.OpenAI, llm: LLM) -> None:
    (score,) = llm.score("hello there")
    answer = client.completions.create(model="tiny", prompt="hello there", max_tokens=0, echo=True, logprobs=1)
    (choice,) = answer.choices
    logprobs = choice.logprobs
    assert choice.text == "hello there" and logprobs is not None and logprobs.token_logprobs is not None
    assert logprobs.token_logprobs[0] is None
    assert logprobs.token_logprobs[1:] == pytest.approx(score.logprobs, abs=1e-5)
    assert "".join(logprobs.tokens or []) == "hello there" and logprobs.text_offset == list(range(11))
    assert answer.usage is not None and answer.usage.completion_tokens == 0


def test_vectors(client: openai.OpenAI, server: Running, paths: dict[str, Path]) -> None:
    texts = ["a man plays", "who"]
    with LLM(paths["bert"], num_threads=1) as encoder:
        want = encoder.embed(texts)
    for encoding in ("float", "base64"):
        answer = client.embeddings.create(model="bert", input=texts, encoding_format=encoding)
        rows = [
            np.frombuffer(base64.b64decode(e.embedding), np.float32) if isinstance(e.embedding, str) else e.embedding
            for e in answer.data
        ]
        np.testing.assert_allclose(np.array(rows, np.float32), want, rtol=1e-6)
    with pytest.raises(openai.BadRequestError, match="dimensions: expected 32"):
        client.embeddings.create(model="bert", input="who", dimensions=3)


def test_models(client: openai.OpenAI) -> None:
    assert [m.id for m in client.models.list()] == ["tiny", "bert"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


@pytest.mark.parametrize(
    ("more", "param", "message"),
    [
        ({"temperature": -1}, "temperature", "temperature: expected a number"),
        ({"temperature": "1"}, "temperature", "valid number"),
        ({"max_tokens": 10**6}, "max_tokens", "exceed the context"),
        ({"top_logprobs": 2}, "top_logprobs", "expected none without logprobs"),
        ({"extra_body": {"temprature": 1}}, "temprature", "expected no such field"),
        ({"store": True}, "store", "not supported, as nothing is stored"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "got one without tools"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}},
            None,
            "not",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, None, ""),
        ({"messages": []}, None, "messages"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "expected token ids"),
    ],
)
def test_what_is_refused_says_which_field(
    client: openai.OpenAI, more: dict[str, Any], param: str | None, message: str
) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "max_tokens": 3} | more
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**asked)
    assert message in raised.value.message
    if param is not None:
        assert raised.value.param == param
    assert raised.value.type == "invalid_request_error"


def test_other_errors_have_their_types(client: openai.OpenAI, server: Running) -> None:
    with pytest.raises(openai.NotFoundError, match="expected one of tiny, bert"):
        client.chat.completions.create(model="gpt-4", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError, match="expected one with a chat template"):
        client.chat.completions.create(model="bert", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError, match="expected one that generates, got 'bert'"):
        client.completions.create(model="bert", prompt="x")
    with pytest.raises(openai.BadRequestError, match="expected an encoder, got 'tiny'"):
        client.embeddings.create(model="tiny", input="x")
    for key in ("sk-wrong", new_secret()):
        with (
            openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as stranger,
            pytest.raises(openai.AuthenticationError) as raised,
        ):
            stranger.models.list()
        assert raised.value.code == "invalid_api_key" and key not in raised.value.message


def test_leaving_a_stream_ends_its_request(client: openai.OpenAI, server: Running) -> None:
    stream = client.chat.completions.create(
        model="tiny", messages=MESSAGES, stream=True, extra_body={"ignore_eos": True}, max_tokens=200
    )
    next(iter(stream))
    stream.close()
    headers = {"authorization": f"Bearer {SECRET}"}
    for _ in range(500):
        assert server.service is not None
        if server.service.models["tiny"]._llm._client._connection._generations == {}:
            break
        time.sleep(0.01)
    else:
        raise AssertionError("the request goes on")
    assert httpx.get(f"{server.url}/health", headers=headers).json() == {"status": "ok"}


def test_what_is_open_and_what_is_not(server: Running) -> None:
    assert httpx.get(f"{server.url}/health").status_code == 200
    for path in ("/v1/models", "/version", "/openapi.json", "/nothing"):
        answer = httpx.get(f"{server.url}{path}")
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    headers = {"authorization": f"Bearer {SECRET}", "x-request-id": "mine"}
    answer = httpx.get(f"{server.url}/nothing", headers=headers)
    assert answer.status_code == 404 and answer.headers["x-request-id"] == "mine"
    assert answer.json()["error"]["code"] == "not_found"
    assert httpx.get(f"{server.url}/v1/models").headers["x-request-id"].startswith("req-")


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"model": "tiny"}', b"\xff\xfe"])
def test_bodies_that_are_none(server: Running, body: bytes) -> None:
    headers = {"authorization": f"Bearer {SECRET}", "content-type": "application/json"}
    answer = httpx.post(f"{server.url}/v1/chat/completions", headers=headers, content=body)
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request_error"


def test_a_body_that_is_too_large(server: Running) -> None:
    headers = {"authorization": f"Bearer {SECRET}", "content-type": "application/json"}
    url = f"{server.url}/v1/chat/completions"
    answer = httpx.post(url, headers=headers, content=b" " * ((1 << 20) + 1))
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "body_too_large"

    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 100_000

    assert httpx.post(url, headers=headers, content=pieces()).status_code == 413


def test_tokens(server: Running) -> None:
    headers = {"authorization": f"Bearer {SECRET}"}
    asked = {"model": "tiny", "prompt": "hi"}
    answer = httpx.post(f"{server.url}/tokenize", headers=headers, json=asked).json()
    assert answer == {"tokens": [104, 105], "count": 2, "max_model_len": 256}
    back = httpx.post(f"{server.url}/detokenize", headers=headers, json={"model": "tiny", "tokens": [104, 105]})
    assert back.json() == {"prompt": "hi"}
    refused = httpx.post(f"{server.url}/tokenize", headers=headers, json={"prompt": "hi"})
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "model"
    info = httpx.get(f"{server.url}/tokenizer_info", headers=headers, params={"model": "tiny"}).json()
    assert info == {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "vocab_size": 259}
