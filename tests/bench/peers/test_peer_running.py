from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from bench.model_files import ModelFile
from bench.peers.cases import Case, Table, Target
from bench.peers.encoder_workloads import batch
from bench.peers.engine import Engine, Setting
from bench.peers.host import read_host
from bench.peers.measuring import Bench, Options
from bench.peers.outcomes import Failure
from bench.peers.running import carry_out, make_plans
from bench.peers.store import Measurement, Store
from bench.peers.subjects import MINILM, SMOLLM2, Subject
from bench.peers.workloads import DECODE, DECODE_4, PREFILL, Generation
from bench.worker import ROOT, Worker

from bench.peers import __main__ as command
from bench.peers import measuring, pairs, settings

FILE = ModelFile(Path("model.gguf"), "0123456789abcdef", 2000, 4.5, 8.5)


class FakeEngine(Engine):
    """One whose worker computes nothing; of its settings, the name is the speed."""

    def start(self, model: Path, num_threads: int, *, setting: Setting, isa: str | None) -> Worker:
        assert (model, num_threads, isa) == (FILE.path, 1, None)
        variables = {"FAKE_SPEED": setting.name or "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
        command = [sys.executable, "-m", f"tests.bench.{self.module}"]
        if "--silent" not in self.options:
            return Worker(command, variables)
        worker = Worker(command, {**variables, "FAKE_SILENCE": ""})
        worker._timeout_s = 0.1
        return worker

    def fingerprint(self, isa: str | None) -> str:
        return f"{self.name}-{self.options}"


OURS = FakeEngine(name="Ours", module="fake_worker", settings=(Setting("4"),))
THEIRS = FakeEngine(name="Theirs", module="fake_worker", settings=(Setting("1"), Setting("2")))
SILENT = FakeEngine(name="Silent", module="fake_worker", options=("--silent",))
BROKEN = FakeEngine(name="Broken", module="fake_worker_that_is_not_there")


def case(theirs: Engine, workload: object = DECODE) -> Case:
    assert workload in (DECODE, DECODE_4)
    return Case(
        table=Table.LIMITS,
        subject=SMOLLM2,
        workload=DECODE if workload is DECODE else DECODE_4,
        ours=OURS,
        theirs=theirs,
        target=Target(2.0),
    )


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(Subject, "prepare", lambda subject: FILE)
    monkeypatch.setattr(Subject, "digest", lambda subject: "digest")
    monkeypatch.setattr(measuring, "require_idle", lambda workers: None)
    for module in (pairs, settings):
        monkeypatch.setattr(module, "SETTLE_S", 0.0)
    return Bench(Options(num_threads=1, num_pairs=3, isa=None, text=None), read_host(), lambda text: None)


def test_the_fastest_setting_is_measured_and_named(bench: Bench, tmp_path: Path) -> None:
    with bench:
        measured = bench.measure(case(THEIRS))
    assert (measured.theirs.setting, measured.theirs.trials) == ("2", {"1": 1000.0, "2": 2000.0})
    assert measured.rates.ours == (4000.0,) * 3
    assert measured.rates.theirs == (2000.0,) * 3
    assert (measured.digest, measured.body_bits, measured.head_bits) == (FILE.digest, 4.5, 8.5)


def test_settings_are_tried_once_on_all_workloads_of_an_engine(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[list[str]] = []

    def fake(
        found: list[Setting], start: object, workloads: list[Generation], vocab_size: int
    ) -> dict[str, settings.Trials]:
        tried.append([workload.name for workload in workloads])
        return {workload.name: settings.Trials(found[i % 2].name, {}) for i, workload in enumerate(workloads)}

    monkeypatch.setattr(measuring, "try_settings", fake)
    cases = (case(THEIRS), case(replace(THEIRS, name="Others"), DECODE_4), case(THEIRS, DECODE_4))
    with bench:
        measured = [bench.measure(each, among=cases) for each in cases]
    assert tried == [["decode 1", "decode 4"], ["decode 4"]]
    assert [each.theirs.setting for each in measured] == ["1", "1", "2"]


def test_a_processor_may_lack_what_a_setting_needs(bench: Bench) -> None:
    theirs = replace(THEIRS, settings=(Setting("1"), Setting("9", needs="no such flag")))
    with bench:
        measured = bench.measure(case(theirs))
    assert (measured.theirs.setting, measured.rates.ratio) == ("1", 4.0)


def test_a_worker_that_stays_for_the_next_case_gets_other_prompts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[int]] = []

    def decode(worker: Worker, prompts: list[list[int]], num_tokens: int) -> float:
        asked.append(prompts[0])
        return 1.0

    monkeypatch.setattr(Worker, "decode", decode)
    peers = [replace(THEIRS, name=name, settings=(Setting("1"),)) for name in ("A", "B")]
    with bench:
        for peer in peers:
            bench.measure(case(peer))
    assert len(asked) == 2 * 2 * (1 + 3)
    assert asked[0::2] == asked[1::2], "both engines of a pair get the same"
    assert len({tuple(prompt) for prompt in asked}) == len(asked) / 2


def test_one_engine_may_be_measured_on_two_workloads(bench: Bench) -> None:
    with bench:
        measured = bench.measure(replace(case(OURS), workload=PREFILL, their_workload=DECODE_4))
    assert measured.rates.ratio == 1.0


def test_only_what_is_missing_is_measured(bench: Bench, tmp_path: Path) -> None:
    store = Store(tmp_path)
    cases = (case(THEIRS), case(BROKEN), case(THEIRS, DECODE_4))
    done: list[str] = []
    with bench:
        plans = make_plans(cases, bench, store, is_fresh=False)
        assert [plan.known for plan in plans] == [None, None, None]
        assert plans[0].remaining_s > 0
        results = carry_out(plans, bench, store, lambda plan: done.append(plan.case.name))
        again = make_plans(cases, bench, store, is_fresh=False)
        fresh = make_plans(cases, bench, store, is_fresh=True)
    assert done == [case.name for case in cases]
    failure = results.outcome(cases[1])
    assert isinstance(failure, Failure) and "No module named" in failure.reason
    assert isinstance(results.outcome(cases[2]), Measurement), "a failure leaves the next case alone"
    assert [plan.known for plan in again] == [results.outcome(cases[0]), None, results.outcome(cases[2])]
    measured = results.outcome(cases[0])
    assert isinstance(measured, Measurement)
    assert (again[0].remaining_s, again[0].estimate_s) == (0.0, measured.elapsed_s)
    assert [plan.known for plan in fresh] == [None, None, None]


def test_an_engine_that_gives_no_answer_is_a_failure_and_the_run_goes_on(bench: Bench, tmp_path: Path) -> None:
    store, cases = Store(tmp_path), (case(SILENT), case(THEIRS, DECODE_4))
    with bench:
        results = carry_out(make_plans(cases, bench, store, is_fresh=False), bench, store, lambda plan: None)
    failure = results.outcome(cases[0])
    assert isinstance(failure, Failure) and "fake_worker: gave no answer within 0.1 s" in failure.reason
    assert isinstance(results.outcome(cases[1]), Measurement)


def test_another_engine_model_or_machine_is_another_measurement(bench: Bench) -> None:
    facts = bench.facts(case(THEIRS))
    assert json.loads(json.dumps(facts)) is not None
    assert facts != bench.facts(case(THEIRS, DECODE_4))
    assert facts != bench.facts(case(replace(THEIRS, options=("--other",))))
    other_host = replace(read_host(), num_cores=99)
    for options, host in ((Options(2, 3, None, None), read_host()), (Options(1, 3, None, None), other_host)):
        assert Bench(options, host, lambda text: None).facts(case(THEIRS)) != facts


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> int:
    cases = (replace(case(THEIRS), is_short=True), case(BROKEN), case(THEIRS, DECODE_4))
    monkeypatch.setattr(command, "all_cases", lambda flags: cases)
    monkeypatch.setattr(command, "CACHE", folder)
    return command.main(["--threads", "1", "--pairs", "2", *arguments])


def test_the_command_measures_prints_and_writes(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--short", "--json", str(tmp_path / "all.json")], monkeypatch, tmp_path) == 0
    (entry,) = json.loads((tmp_path / "all.json").read_text())
    assert (entry["case"], entry["ratio"]) == ("smollm2/decode-1/Theirs", 2.0)
    assert "2 reached" in capsys.readouterr().out
    assert run(["--list"], monkeypatch, tmp_path) == 0
    listed = capsys.readouterr().out
    assert listed.count("to be measured") == 2 and listed.count("measured 2") == 1


def test_a_case_that_fails_is_shown_and_is_the_status(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([], monkeypatch, tmp_path) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("2 reached") == 2
    assert "failed:" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nothing"], "no case is called so: nothing"),
        (["--write-page", "--short"], "--write-page: expected all cases"),
        (["--write-page", "--only", "smollm2"], "--write-page: expected all cases"),
        (["--isa", "avx2"], "no case is called so"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(arguments, monkeypatch, tmp_path)
    assert message in f"{ended.value}{capsys.readouterr().err}"


def test_cosines_are_with_the_reference(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = FakeEngine(name="Encoder", module="fake_encoder_worker")
    monkeypatch.setattr(measuring, "ENCODER_REFERENCE", encoder)
    monkeypatch.setattr(measuring, "encode", lambda path, texts: [[1], [1, 2], [1, 2, 3]])
    embed = Case(table=Table.ENCODERS, subject=MINILM, workload=batch(2, 8), ours=encoder, theirs=encoder)
    with bench:
        measured = bench.measure(embed)
    assert measured.ours.quality is not None and measured.theirs.quality is not None
    assert 0.0 < measured.ours.quality < 1.0, "it counts what it has embedded before"
