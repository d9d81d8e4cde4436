from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton_ai.errors import InvalidRequest
from lepton_ai.loadgen.arrivals import poisson_arrivals
from lepton_ai.loadgen.lengths import Lengths
from lepton_ai.loadgen.prompt_file import FileWorkload, read_prompts
from lepton_ai.loadgen.synthetic import WORDS, Pool, Shape, SyntheticWorkload
from lepton_ai.loadgen.target import LoadRequest
from lepton_ai.loadgen.workload import Workload

IDS = Pool(range(1000, 1100), 0.5)


def body(request: LoadRequest) -> dict[str, Any]:
    value = json.loads(request.body)
    assert isinstance(value, dict)
    return value


def take(workload: Workload, count: int) -> list[dict[str, Any]]:
    return [body(workload.next_request()) for _ in range(count)]


def shape(prompt: str = "20", output: str = "6", **more: Any) -> Shape:
    return Shape(prompt_tokens=Lengths.parse(prompt, "p"), output_tokens=Lengths.parse(output, "o"), **more)


def test_lengths() -> None:
    assert Lengths.parse("128", "x") == Lengths(128, 128) and Lengths.parse(" 64:512 ", "x") == Lengths(64, 512)
    assert (str(Lengths(128, 128)), str(Lengths(64, 512))) == ("128", "64:512")
    rng = np.random.default_rng(0)
    counts = Counter(Lengths(3, 6).draw(rng) for _ in range(4000))
    assert sorted(counts) == [3, 4, 5, 6] and min(counts.values()) > 900


@pytest.mark.parametrize("text", ["", "0", "-1", "5:3", "0:3", "1:", ":3", "1:2:3", "x", "1.5", "٣"])
def test_what_are_no_lengths(text: str) -> None:
    with pytest.raises(InvalidRequest, match="--prompt-tokens: expected a number of tokens") as raised:
        Lengths.parse(text, "prompt-tokens")
    assert raised.value.param == "prompt_tokens"


def test_prompts_of_ids_have_as_many_as_the_shape_says() -> None:
    requests = take(SyntheticWorkload("m", shape("10:30", "5:9"), IDS, seed=3), 200)
    assert {len(r["prompt"]) for r in requests} == set(range(10, 31))
    assert {r["max_tokens"] for r in requests} == set(range(5, 10))
    assert all(1000 <= token < 1100 for r in requests for token in r["prompt"])
    assert len({tuple(r["prompt"][:10]) for r in requests}) == 200
    first = requests[0]
    assert first | {"prompt": [], "max_tokens": 0} == {
        "model": "m",
        "prompt": [],
        "max_tokens": 0,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_a_seed_says_all() -> None:
    first, again, other = (take(SyntheticWorkload("m", shape("10:30"), IDS, seed=s), 20) for s in (1, 1, 2))
    assert first == again and first != other


def test_a_common_beginning() -> None:
    requests = take(SyntheticWorkload("m", shape("20:40", shared_prefix_tokens=15), IDS, seed=0), 50)
    assert len({tuple(r["prompt"][:15]) for r in requests}) == 1
    assert len({tuple(r["prompt"][:20]) for r in requests}) == 50
    with pytest.raises(InvalidRequest, match="expected fewer than the 20 of the shortest prompt, got 20"):
        shape("20:40", shared_prefix_tokens=20)


def test_the_largest_request() -> None:
    workload = SyntheticWorkload("m", shape("10:30", "5:9"), IDS, seed=0)
    largest = workload.largest_request()
    assert len(body(largest)["prompt"]) == 30 and body(largest)["max_tokens"] == largest.max_tokens == 9


def test_texts_where_a_server_does_not_tokenize() -> None:
    made = SyntheticWorkload("m", shape("20", shared_prefix_tokens=5), Pool(None, 1.0), seed=0)
    request = made.next_request()
    words = body(request)["prompt"].split(" ")
    assert request.path == "/v1/completions" and len(words) == 20 and set(words) <= set(WORDS)
    assert body(made.next_request())["prompt"].split(" ")[:5] == words[:5]


def test_chats_are_texts_of_about_as_many_tokens() -> None:
    request = SyntheticWorkload("m", shape("40", is_chat=True, ignore_eos=False), IDS, seed=0).next_request()
    asked = body(request)
    (message,) = asked["messages"]
    assert request.path == "/v1/chat/completions" and message["role"] == "user"
    assert len(message["content"].split()) == 20  # half a word is a token
    assert "ignore_eos" not in asked and "prompt" not in asked


def test_words_are_there_once() -> None:
    assert len(set(WORDS)) == len(WORDS) > 80


def prompts(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "prompts"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_file_of_texts(tmp_path: Path) -> None:
    lines = read_prompts(prompts(tmp_path, "Why?", "", "  ", "Wie geht's?"))
    workload = FileWorkload("m", lines, Lengths(7, 7), seed=0, ignore_eos=False)
    asked = take(workload, 3)
    assert [r["messages"] for r in asked] == [
        [{"role": "user", "content": text}] for text in ("Why?", "Wie geht's?", "Why?")
    ]
    assert {r["max_tokens"] for r in asked} == {7} and "ignore_eos" not in asked[0] and "temperature" not in asked[0]
    assert workload.next_request().path == "/v1/chat/completions"


def test_a_file_of_objects(tmp_path: Path) -> None:
    message = [{"role": "system", "content": "x"}]
    lines = [
        json.dumps({"messages": message, "max_tokens": 3, "temperature": 0.5}),
        json.dumps({"prompt": "Once", "n": 1}),
        json.dumps({"prompt": [1, 2, 3], "max_tokens": 50}),
    ]
    workload = FileWorkload("m", read_prompts(prompts(tmp_path, *lines)), Lengths(9, 9), seed=0, ignore_eos=True)
    requests = [workload.next_request() for _ in range(4)]
    assert [r.path.rpartition("v1/")[2] for r in requests] == [
        "chat/completions",
        "completions",
        "completions",
        "chat/completions",
    ]
    assert [r.max_tokens for r in requests] == [3, 9, 50, 3]
    assert body(requests[0])["temperature"] == 0.5 and body(requests[0])["messages"] == message
    assert body(requests[2])["prompt"] == [1, 2, 3] and body(requests[2])["ignore_eos"] is True
    largest = workload.largest_request()
    assert largest.max_tokens == 50 and body(largest)["messages"] == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: expected JSON"),
        ("[1]", "expected an object with messages or prompt"),
        ("{}", "expected an object with messages or prompt"),
        ('{"messages": [], "prompt": "x"}', "expected an object with messages or prompt"),
        ('{"prompt": "x", "model": "y"}', "model: expected none"),
        ('{"prompt": "x", "stream": false}', "stream: expected none"),
        ('{"prompt": "x", "n": 2}', "n: expected one answer"),
        ('{"prompt": "x", "max_tokens": 0}', "max_tokens: expected a positive integer"),
        ('{"prompt": "x", "max_tokens": true}', "max_tokens: expected a positive integer"),
    ],
)
def test_lines_that_are_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match="--prompts: ") as raised:
        read_prompts(prompts(tmp_path, '{"prompt": "fine"}', line))
    assert message in raised.value.message


def test_files_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "bytes"):
        with pytest.raises(InvalidRequest, match="expected a file of texts"):
            read_prompts(path)
    with pytest.raises(InvalidRequest, match="at least one line"):
        read_prompts(prompts(tmp_path, "", " "))


def arrivals(rate: float, seed: int, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    source = poisson_arrivals(rate, seed)
    return np.array([next(source) for _ in range(count)])


def test_arrivals_are_those_of_a_poisson_process() -> None:
    """Gaps are exponential: mean and deviation 1/rate, a share exp(-1) above it; arrivals in a second have a variance
    as large as their mean. Bounds are four standard errors."""
    count, rate = 20_000, 4.0
    times = arrivals(rate, 7, count)
    gaps = np.diff(times, prepend=0.0) * rate
    assert gaps.min() > 0
    assert abs(gaps.mean() - 1) < 4 / count**0.5
    assert abs(gaps.std() - 1) < 4 * (2 / count) ** 0.5
    assert abs((gaps > 1).mean() - np.exp(-1)) < 4 * (np.exp(-1) * (1 - np.exp(-1)) / count) ** 0.5
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 4 / count**0.5
    seconds = int(times[-1])
    per_second = np.bincount(times.astype(int))[:seconds]
    assert abs(per_second.mean() - rate) < 4 * (rate / seconds) ** 0.5
    # The variance of a sample variance of Poisson counts is (mean + 2 mean^2) / n.
    assert abs(per_second.var() - rate) < 4 * ((rate + 2 * rate**2) / seconds) ** 0.5


def test_arrivals_of_a_seed_differ_by_the_rate_alone() -> None:
    np.testing.assert_array_equal(arrivals(2.0, 1, 50), arrivals(2.0, 1, 50))
    np.testing.assert_allclose(arrivals(2.0, 1, 50), arrivals(8.0, 1, 50) * 4, rtol=1e-12)
    assert not np.array_equal(arrivals(2.0, 1, 50), arrivals(2.0, 2, 50))
