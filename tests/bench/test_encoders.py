from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from bench.encoder_cases import CASES, parse_case
from bench.encoders import REFERENCE, measure_cosines, measure_rates, parse_options, peers
from bench.serving import EngineInfo
from bench.worker import Embedded, EncoderWorker
from rich.console import Console

from bench import pairs


class Turned(EncoderWorker):
    """Its vectors are turned by an angle; it embeds so many sequences a second, and remembers them."""

    def __init__(self, name: str, *, angle: float = 0.0, rate: float = 1.0) -> None:
        self.info = EngineInfo(name, "1", "none", 1, "")
        self.asked: list[Sequence[Sequence[int]]] = []
        self._angle, self._rate = angle, rate

    def embed(self, sequences: Sequence[Sequence[int]], *, batch_size: int) -> Embedded:
        self.asked.append(sequences)
        # The second sentence comes out worse than the others.
        angles = self._angle * np.where(np.arange(len(sequences)) == 1, 2, 1)
        return Embedded(np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32), len(sequences) / self._rate)

    def cpu_seconds(self) -> float:
        return 0.0


def test_the_least_cosine_is_with_the_reference() -> None:
    workers = (Turned("ours", angle=0.25), Turned("other"), Turned(REFERENCE, angle=0.5))
    engines = measure_cosines(workers, [[1], [2], [3]])
    assert [engine.info.name for engine in engines] == ["ours", "other", REFERENCE]
    expected = [np.cos(0.5), np.cos(1.0), 1.0]
    assert [engine.least_cosine for engine in engines] == pytest.approx(expected, abs=1e-6)


def test_both_embed_the_same_fresh_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "SETTLE_S", 0.0)
    ours, theirs = Turned("ours", rate=30.0), Turned("theirs", rate=20.0)
    rates = measure_rates(parse_case("2x8"), 2000, (ours, theirs), 2)
    assert (rates.our_median, rates.their_median, rates.ratio) == pytest.approx((30.0, 20.0, 1.5))
    assert ours.asked == theirs.asked
    assert len({str(texts) for texts in ours.asked}) == 3


def test_bf16_is_for_processors_that_have_it() -> None:
    without, with_it = peers(frozenset(("avx2",))), peers(frozenset(("avx512_bf16",)))
    assert [peer.name for peer in without] == [
        *("ONNX Runtime int8", "OpenVINO int8", "ONNX Runtime f32", "OpenVINO f32"),
    ]
    assert [peer.name for peer in with_it] == [*(peer.name for peer in without), "OpenVINO bf16"]
    assert not any("bf16" in peer.options for peer in without)
    assert [peer.name for peer in with_it if "bf16" in peer.options] == ["OpenVINO int8", "OpenVINO bf16"]
    assert REFERENCE in {peer.name for peer in without}


def test_cases_are_chosen_on_the_command_line() -> None:
    log = Console(file=io.StringIO())
    options, _ = parse_options(["--peers-python", "python", "--cases", "2x8", "ragged"], log)
    assert options.cases == (parse_case("2x8"), CASES[-1])
    assert options.policy == "fast"
    options, arguments = parse_options(["--peers-python", "python", "--stsb", "x.tsv", "--json", "y.json"], log)
    assert options.cases == CASES
    assert (options.peers_python, options.stsb, arguments.json) == (Path("python"), Path("x.tsv"), Path("y.json"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "2x"], "--cases: expected texts x tokens, such as 32x128, or ragged; got '2x'"),
        (["--policy", "quick"], "invalid choice: 'quick'"),
    ],
)
def test_what_is_not_known_is_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_options(arguments, Console(file=io.StringIO()))
    assert message in capsys.readouterr().err
