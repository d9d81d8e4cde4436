"""Measures a case: makes the forms of its model, finds the peer's fastest setting, and lets both engines take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from bench.model_files import ModelFile
from bench.peers.cases import Case, Table
from bench.peers.cpu_flags import cpu_flags
from bench.peers.encoder_files import default_sentences, encode
from bench.peers.engine import Engine, Setting
from bench.peers.engines import ENCODER_REFERENCE, LEPTON_EXACT
from bench.peers.host import Host
from bench.peers.launches import LaunchPair, as_rates, launch_pairs
from bench.peers.pairs import PairedRates, measure_pairs
from bench.peers.pool import Wanted, WorkerPool
from bench.peers.qualities import Text, divergences, least_cosine, vectors
from bench.peers.settings import Trials, try_settings
from bench.peers.store import Contender, Facts, Measurement
from bench.peers.subjects import Subject
from bench.peers.workloads import Launch, Workload
from bench.serving import EngineInfo
from bench.worker import Worker, require_idle


@dataclass(frozen=True, slots=True)
class Options:
    """How all cases are measured. ``isa`` None is the best that the machine has; without a ``text`` there is no KL."""

    num_threads: int
    num_pairs: int
    isa: str | None
    text: Text | None


class Bench:
    """Measures cases one after another. Use it as a context manager.

    ``say`` is told what happens now. Models are prepared once.
    """

    def __init__(self, options: Options, host: Host, say: Callable[[str], None]) -> None:
        self._options = options
        self._host = host
        self._say = say
        self._pool = WorkerPool(self._start)
        self._files: dict[Subject, ModelFile] = {}
        self._references: dict[Subject, npt.NDArray[np.float32]] = {}
        self._trials: dict[tuple[Subject, str, str], Trials] = {}
        self._launches: dict[tuple[Subject, str], list[LaunchPair]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()

    def facts(self, case: Case) -> Facts:
        """All that a measurement of ``case`` depends on."""
        options, other = self._options, case.their_workload
        return {
            "workload": repr(case.workload),
            "their_workload": repr(other) if other else None,
            "ours": self._fingerprint(case.ours, case),
            "theirs": self._fingerprint(case.theirs, case),
            "model": case.subject.digest(),
            "num_threads": options.num_threads,
            "num_pairs": options.num_pairs,
            "text": options.text.digest if options.text and case.table is Table.GENERATION else None,
            "host": asdict(self._host),
        }

    def measure(self, case: Case, *, among: Sequence[Case] = ()) -> Measurement:
        """Measure it. ``among`` has all that will be: settings are tried on the workloads of them at once.

        Raises whatever keeps an engine from running; the next case can be measured all the same.
        """
        begin = time.perf_counter()
        try:
            file = self._prepare(case.subject)
            match case.workload:
                case Launch() as launch:
                    ours, theirs, rates = self._launch(case, launch, file)
                case workload:
                    ours, theirs, rates = self._compare(case, workload, file, among)
        except BaseException:
            self._pool.close()
            raise
        return Measurement(
            ours=ours,
            theirs=theirs,
            rates=rates,
            digest=file.digest,
            body_bits=file.body_bits,
            head_bits=file.head_bits,
            date=datetime.now(timezone.utc).date().isoformat(),
            elapsed_s=time.perf_counter() - begin,
        )

    def _fingerprint(self, engine: Engine, case: Case) -> str:
        is_launched = isinstance(case.workload, Launch)
        return engine.launch_fingerprint() if is_launched else engine.fingerprint(self._options.isa)

    def _compare(
        self, case: Case, workload: Workload, file: ModelFile, among: Sequence[Case]
    ) -> tuple[Contender, Contender, PairedRates]:
        theirs = case.their_workload or workload
        trials = self._choose(case, theirs, file, among)
        workers = self._pool.take(
            self._want(case.ours, case.ours.settings[0], file),
            self._want(case.theirs, _named(case.theirs, trials.best), file),
        )
        rates = self._measure_pairs(case.name, (workload, theirs), file, workers)
        qualities = self._qualities(case, file, workers)
        contenders = [Contender(worker.info, quality) for worker, quality in zip(workers, qualities, strict=True)]
        return contenders[0], replace(contenders[1], setting=trials.best, trials=trials.rates), rates

    def _launch(self, case: Case, launch: Launch, file: ModelFile) -> tuple[Contender, Contender, PairedRates]:
        """One process at a time, so the pool is empty. Seconds and memory of a pair of engines are of one series."""
        self._pool.close()
        key = (case.subject, case.theirs.name)
        if key not in self._launches:
            self._say(f"{case.name}: {self._options.num_pairs} pairs of processes")
            self._launches[key] = launch_pairs(case, file, self._options.num_threads, self._options.num_pairs)
        rates = as_rates(self._launches[key], launch)
        ours, theirs = (
            Contender(EngineInfo(engine.name, "", "", self._options.num_threads, ""))
            for engine in (case.ours, case.theirs)
        )
        return ours, theirs, rates

    def _prepare(self, subject: Subject) -> ModelFile:
        if subject not in self._files:
            self._say(f"{subject.label}: its file")
            self._files[subject] = subject.prepare()
        return self._files[subject]

    def _choose(self, case: Case, workload: Workload, file: ModelFile, among: Sequence[Case]) -> Trials:
        engine, flags = case.theirs, cpu_flags()
        settings = [setting for setting in engine.settings if setting.needs is None or setting.needs in flags]
        if len(settings) == 1:
            return Trials(settings[0].name, {})
        if (case.subject, engine.name, workload.name) not in self._trials:
            self._pool.close()
            self._say(f"{case.name}: {len(settings)} settings of {engine.name}")
            trials = try_settings(
                settings,
                lambda setting: self._start(self._want(engine, setting, file)),
                list(dict.fromkeys([workload, *_workloads(among, case.subject, engine)])),
                file.vocab_size,
            )
            self._trials |= {(case.subject, engine.name, name): each for name, each in trials.items()}
        return self._trials[case.subject, engine.name, workload.name]

    def _measure_pairs(
        self, name: str, workloads: tuple[Workload, Workload], file: ModelFile, workers: list[Worker]
    ) -> PairedRates:
        def run(worker: Worker, workload: Workload, pair: int) -> float:
            # Both engines get the same; a worker that stays for the next case gets others there.
            rng = np.random.default_rng([pair + 1, *f"{name} {workload.name}".encode()])
            return workload.run(worker, workload.draw(rng, file.vocab_size))

        ours, theirs = workers
        self._say(f"{name}: {self._options.num_pairs} pairs")
        rates = measure_pairs(
            lambda pair: run(ours, workloads[0], pair),
            lambda pair: run(theirs, workloads[1], pair),
            num_pairs=self._options.num_pairs,
        )
        require_idle(workers)
        return rates

    def _qualities(self, case: Case, file: ModelFile, workers: list[Worker]) -> list[float | None]:
        match case.table:
            case Table.GENERATION:
                return self._divergences(case, file, workers)
            case Table.ENCODERS:
                return [*self._cosines(case, file, workers)]
            case _:
                return [None, None]

    def _divergences(self, case: Case, file: ModelFile, workers: list[Worker]) -> list[float | None]:
        engines, text = (case.ours, case.theirs), self._options.text
        able = [worker for engine, worker in zip(engines, workers, strict=True) if engine.has_logits]
        if text is None or not able:
            return [None, None]
        self._say(f"{case.name}: KL")
        exact = self._want(LEPTON_EXACT, LEPTON_EXACT.settings[0], file)
        found = iter(divergences(text, file, able, lambda: self._start(exact)))
        return [next(found) if engine.has_logits else None for engine in engines]

    def _cosines(self, case: Case, file: ModelFile, workers: list[Worker]) -> list[float]:
        self._say(f"{case.name}: cosines")
        sentences = encode(file.path, default_sentences().measured)
        if case.subject not in self._references:
            wanted = self._want(ENCODER_REFERENCE, ENCODER_REFERENCE.settings[0], file)
            with self._start(wanted) as reference:
                self._references[case.subject] = vectors(reference, sentences)
        return [least_cosine(worker, sentences, self._references[case.subject]) for worker in workers]

    def _want(self, engine: Engine, setting: Setting, file: ModelFile) -> Wanted:
        return Wanted(engine, setting, engine.form(file.path) if engine.form else file.path)

    def _start(self, wanted: Wanted) -> Worker:
        options = self._options
        return wanted.engine.start(wanted.model, options.num_threads, setting=wanted.setting, isa=options.isa)


def _workloads(cases: Sequence[Case], subject: Subject, engine: Engine) -> list[Workload]:
    """What ``engine`` is measured on beside Lepton."""
    found = [each.their_workload or each.workload for each in cases if (each.subject, each.theirs) == (subject, engine)]
    return [workload for workload in found if not isinstance(workload, Launch)]


def _named(engine: Engine, name: str) -> Setting:
    return next(setting for setting in engine.settings if setting.name == name)
