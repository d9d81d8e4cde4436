"""Models on one device."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.engine.tiny_gguf import tiny_gguf

from lepton_ai import LLM, Device, SamplingParams
from lepton_ai.errors import InvalidRequest, OutOfMemory

GREEDY = SamplingParams(temperature=0.0, max_tokens=12)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [tiny_gguf(folder / f"{seed}.gguf", seed=seed) for seed in range(2)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEPTON_HOME", str(tmp_path / "home"))


def test_models_take_turns(paths: list[Path]) -> None:
    want = []
    for path in paths:
        with LLM(path) as llm:
            want.append(llm.generate(["hello", "x"], GREEDY))
    device = Device(num_threads=2)
    with LLM(paths[0], device=device) as first, LLM(paths[1], device=device) as second:
        got: dict[int, object] = {}

        def work(index: int, llm: LLM) -> None:
            got[index] = llm.generate(["hello", "x"], GREEDY)

        threads = [threading.Thread(target=work, args=pair) for pair in enumerate((first, second))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=20)
        assert [got[0], got[1]] == want
        assert first.model_info.num_threads == second.model_info.num_threads == 2


def test_models_of_the_same_weights_hold_them_once(paths: list[Path]) -> None:
    device = Device(num_threads=1)
    with LLM(paths[0], device=device) as first:
        alone = device.cpu.memory.used_bytes
        (memory,) = device.cpu.panels.values()
        with LLM(paths[0], device=device) as second:
            assert device.cpu.memory.used_bytes == 2 * alone - memory.num_bytes
            assert first.generate("hello", GREEDY) == second.generate("hello", GREEDY)


def test_one_budget(paths: list[Path]) -> None:
    device = Device(num_threads=1, memory_bytes=24 << 20)
    with LLM(paths[0], device=device) as llm:
        assert 0 < llm.model_info.kv_bytes <= 6 << 20, "a quarter of what there is"
        with pytest.raises(OutOfMemory, match="memory_bytes: keys and values take"):
            LLM(paths[1], device=device, kv_memory_bytes=24 << 20)
        assert llm.generate("hello", GREEDY)
        with LLM(paths[1], device=device, kv_memory_bytes=1 << 20) as other:
            assert other.generate("hello", GREEDY)


@pytest.mark.parametrize(("name", "value"), [("num_threads", 2), ("backend", "reference")])
def test_what_a_device_has_of_its_own(paths: list[Path], name: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=f"{name}: expected none beside a device"):
        LLM(paths[0], device=Device(num_threads=1), **{name: value})  # type: ignore[arg-type]
