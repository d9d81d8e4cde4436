from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.cli.conftest import Lepton
from tests.engine.published import SENTENCE_FILES, published_bert, write_files
from tests.engine.tiny_gguf import tiny_gguf

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf"))


@pytest.mark.parametrize("concurrency", [1, 3])
def test_figures(lepton: Lepton, model: str, concurrency: int) -> None:
    options = f"--prompt-tokens 20 --output-tokens 30 --repeat 2 --threads 1 --concurrency {concurrency} --json".split()
    value = lepton("bench", model, *options).json()
    assert (value["model"], value["concurrency"], value["num_threads"]) == (model, concurrency, 1)
    for name in ("prefill_tokens_per_s", "decode_tokens_per_s", "time_to_first_token_s"):
        figure = value[name]
        assert isinstance(figure, float) and figure > 0
    memory = value["peak_memory_bytes"]
    assert isinstance(memory, int) and memory > 1 << 20
    assert isinstance(value["isa"], str)


def test_a_single_token_has_no_decode_rate(lepton: Lepton, model: str) -> None:
    value = lepton("bench", model, "--prompt-tokens", "5", "--output-tokens", "1", "--repeat", "1", "--json").json()
    assert value["decode_tokens_per_s"] is None


def test_for_people(lepton: Lepton, model: str) -> None:
    lines = lepton("bench", model, "--prompt-tokens", "5", "--output-tokens", "2", "--repeat", "1").out.splitlines()
    assert any(line.startswith("decode_tokens_per_s ") for line in lines)


@pytest.mark.parametrize("kv_dtype", ["f16", "int16", "int8"])
def test_kv_memory(lepton: Lepton, model: str, kv_dtype: str) -> None:
    options = ["--prompt-tokens", "20", "--output-tokens", "13", "--repeat", "1"]
    options += ["--kv-dtype", kv_dtype]
    per_token = 2 * 2 * {"f16": 2 * 16 * 2, "int16": 2 * (16 * 2 + 4), "int8": 2 * (16 + 4) + 4}[kv_dtype]
    # 33 tokens, of which the last is never computed.
    enough, short = 2 * 16 * per_token, 2 * 16 * per_token - 1
    assert lepton("bench", model, *options, "--kv-memory", str(enough), "--json").json()["kv_dtype"] == kv_dtype
    refused = lepton("bench", model, *options, "--kv-memory", f"{short}B")
    assert refused.status == 1 and "kv_memory_bytes: 33 tokens need" in refused.err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--kv-memory", "many", "--kv-memory: expected a number of bytes, such as 512MiB or 2GB, got 'many'"),
        ("--kv-memory", "0", "kv_memory_bytes: expected a positive integer, got 0"),
        ("--kv-dtype", "q4", "kv_dtype: expected one of f32, f16, int16, int8, got 'q4'"),
    ],
)
def test_what_no_cache_can_be(lepton: Lepton, model: str, option: str, value: str, message: str) -> None:
    result = lepton("bench", model, option, value)
    assert result.status == 2 and message in result.err


def test_more_than_the_context(lepton: Lepton, model: str) -> None:
    result = lepton("bench", model, "--prompt-tokens", "250", "--output-tokens", "20")
    assert result.status == 2 and "max_model_len: expected 2 to 256" in result.err


def test_no_such_model(lepton: Lepton, tmp_path: Path) -> None:
    result = lepton("bench", str(tmp_path / "absent.gguf"), "--json")
    assert result.status == 1 and "model_not_found" in result.out


def test_figures_of_an_encoder(lepton: Lepton, tmp_path: Path) -> None:
    path = str(write_files(tmp_path / "bert", published_bert() | SENTENCE_FILES))
    options = ["--prompt-tokens", "40", "--concurrency", "5", "--repeat", "2", "--threads", "1"]
    value = lepton("bench", path, *options, "--json").json()
    assert (value["concurrency"], value["prompt_tokens"], value["num_threads"]) == (5, 40, 1)
    texts, tokens = value["texts_per_s"], value["tokens_per_s"]
    assert isinstance(texts, float) and texts > 0 and tokens == pytest.approx(40 * texts)
    refused = lepton("bench", path, *options, "--output-tokens", "3")
    assert refused.status == 2 and "--output-tokens: expected none for an encoder" in refused.err
    kept = lepton("bench", path, *options, "--kv-dtype", "int8")
    assert kept.status == 2 and "kv_dtype: expected none for an encoder" in kept.err
    beyond = lepton("bench", path, "--prompt-tokens", "49")
    assert beyond.status == 2 and "max_model_len: expected 1 to 48" in beyond.err


def test_a_trace_as_a_picture(lepton: Lepton, model: str, tmp_path: Path) -> None:
    path = tmp_path / "engine.svg"
    value = lepton("bench", model, "--trace", str(path), "--threads", "1", "--json").json()
    assert (value["trace"], value["num_requests"], value["num_threads"]) == (str(path), 12, 1)
    # A pre-emption: the urgent request comes when all seats are taken.
    assert value["num_preemptions"] == 1
    shares = [value[name] for name in ("kernel_share", "python_share", "waiting_share")]
    assert all(isinstance(share, float) and 0 < share < 1 for share in shares)
    root = ElementTree.parse(path).getroot()
    (summary,) = [t.text for t in root.iter(f"{SVG}text") if (t.text or "").startswith("12 requests")]
    assert summary is not None and f"{value['num_steps']} steps in" in summary
    names = {t.text for t in root.iter(f"{SVG}text")}
    assert {"1  short", "2  long", "3  shared prefix", "9  urgent"} <= names


def test_the_load_of_a_trace_is_that_of_its_seed(lepton: Lepton, model: str, tmp_path: Path) -> None:
    def work(seed: int) -> list[list[dict[str, int]]]:
        path = tmp_path / f"{seed}.json"
        assert lepton("bench", model, "--trace", str(path), "--seed", str(seed), "--threads", "1").status == 0
        events = json.loads(path.read_text())["traceEvents"]
        return [e["args"] for e in events if e["ph"] == "X" and e["name"].startswith("step ")]

    first = work(0)
    assert first == work(0) and first != work(1)


def test_a_trace_as_a_page(lepton: Lepton, model: str, tmp_path: Path) -> None:
    path = tmp_path / "engine.html"
    result = lepton("bench", model, "--trace", str(path), "--threads", "1")
    assert result.status == 0 and f"wrote {path}" in result.err
    lines = result.out.splitlines()
    assert any(line.startswith("python_s, schedule ") for line in lines)
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and page.count("<svg ") == 1 and "<td>matrix products</td>" in page
    assert "<script" not in page and "src=" not in page and "<link" not in page


@pytest.mark.parametrize("option", ["--prompt-tokens", "--output-tokens", "--concurrency", "--repeat"])
def test_a_trace_has_a_load_of_its_own(lepton: Lepton, model: str, tmp_path: Path, option: str) -> None:
    result = lepton("bench", model, "--trace", str(tmp_path / "a.svg"), option, "3")
    assert result.status == 2 and f"{option}: expected none with --trace" in result.err


def test_where_a_trace_can_be_written(lepton: Lepton, model: str, tmp_path: Path) -> None:
    result = lepton("bench", model, "--trace", str(tmp_path / "a.png"))
    assert result.status == 2 and "--trace: expected a file called *.svg, *.html or *.json, got 'a.png'" in result.err
    result = lepton("bench", model, "--trace", str(tmp_path / "absent" / "a.svg"))
    assert result.status == 2 and f"--trace: there is no folder {tmp_path / 'absent'}" in result.err
    (tmp_path / "taken.svg").mkdir()
    result = lepton("bench", model, "--trace", str(tmp_path / "taken.svg"), "--threads", "1")
    assert result.status == 1 and "--trace: cannot write" in result.err and "[storage_error]" in result.err


def test_a_profile(lepton: Lepton, model: str) -> None:
    options = [
        "--prompt-tokens",
        "20",
        "--output-tokens",
        "12",
        "--concurrency",
        "3",
        "--repeat",
        "2",
        "--threads",
        "1",
        "--profile",
    ]
    value = lepton("bench", model, *options, "--json").json()
    assert (value["concurrency"], value["output_tokens"], value["num_threads"]) == (3, 12, 1)
    steps, limits = value["steps"], value["limits"]
    assert isinstance(steps, list) and isinstance(limits, dict)
    assert limits["memory_bytes_per_s"] > 1e6 and all(peak["macs_per_s"] > 1e6 for peak in limits["peaks"])
    assert [step["title"].split(",")[0] for step in steps] == ["decoding", "decoding", "reading a prompt of 20 tokens"]
    # The fastest quarter of the steps without the first three, and of two prompts.
    assert [step["num_steps"] for step in steps] == [3, 3, 1]
    for step, num_rows in zip(steps, (1, 3, 20), strict=True):
        lines = {(line["op"], line["name"]): line for line in step["lines"]}
        total = sum(line["seconds"] for line in step["lines"]) + step["call_s"] + step["python_s"]
        assert total == pytest.approx(step["step_s"]) and step["call_s"] > 0 and step["python_s"] > 0
        assert step["limit_s"] == pytest.approx(sum(line["limit_s"] for line in step["lines"]))
        rope = lines["rope_table", "rope_table"]
        assert rope["count"] == 1 and rope["activation_bytes"] == pytest.approx(num_rows * (4 + 64))
        assert lines["linear", "ffn_down"]["count"] == 2


def test_a_profile_for_people(lepton: Lepton, model: str) -> None:
    options = [
        "--prompt-tokens",
        "20",
        "--output-tokens",
        "3",
        "--concurrency",
        "1",
        "--repeat",
        "1",
        "--threads",
        "1",
        "--profile",
    ]
    decoding, reading, limits = lepton("bench", model, *options).out.rstrip().split("\n\n")
    assert decoding.startswith("decoding, 1 row, 20 tokens and more in the cache\nop  ")
    assert reading.startswith("reading a prompt of 20 tokens\nop  ")
    assert any(line.split()[:2] == ["linear", "attn_q/k/v"] for line in decoding.splitlines())
    assert decoding.splitlines()[-1].split()[:2] == ["the", "step"]
    assert limits.startswith("limits: ") and " GB/s from memory, " in limits


def test_a_profile_needs_room_for_all_its_requests(lepton: Lepton, model: str) -> None:
    # Two layers of 2 heads of 16 in f16: blocks for one request, not for three.
    options = ["--profile", "--prompt-tokens", "20", "--output-tokens", "12", "--concurrency", "3", "--threads", "1"]
    options += ["--kv-dtype", "f16"]
    refused = lepton("bench", model, *options, "--kv-memory", str(3 * 16 * 2 * 2 * 2 * 16 * 2))
    assert refused.status == 2 and "--kv-memory: expected room for 3 requests that run together" in refused.err


def test_a_profile_is_of_steps_that_generate(lepton: Lepton, model: str, tmp_path: Path) -> None:
    both = lepton("bench", model, "--profile", "--trace", str(tmp_path / "a.svg"))
    assert both.status == 2 and "--profile: expected none with --trace" in both.err
    path = str(write_files(tmp_path / "bert", published_bert() | SENTENCE_FILES))
    encoder = lepton("bench", path, "--profile", "--prompt-tokens", "8", "--output-tokens", "4")
    assert encoder.status == 2 and "--profile: expected a model that generates, got an encoder" in encoder.err


def test_an_encoder_has_no_trace(lepton: Lepton, tmp_path: Path) -> None:
    path = str(write_files(tmp_path / "bert", published_bert() | SENTENCE_FILES))
    result = lepton("bench", path, "--trace", str(tmp_path / "a.svg"))
    assert result.status == 2 and "--trace: expected a model that generates, got an encoder" in result.err
