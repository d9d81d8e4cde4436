"""An engine as it is measured: where it runs, with which settings, on which form of a model."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.peers import environments
from bench.peers.own_build import own_digest
from bench.worker import ROOT, Worker

_PEERS = ROOT / "bench" / "peers"


@dataclass(frozen=True, slots=True)
class Setting:
    """Options of a worker, variables of its process, and the environment it runs in if that is not its engine's. A
    processor without the flag that it ``needs`` has no such setting.
    """

    name: str = ""
    options: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    environment: str | None = None
    needs: str | None = field(default=None, repr=False)  # changes nothing of what is measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An engine as it is measured.

    ``module`` of bench.peers.workers loads and measures it, and takes ``options``. ``environment`` None is the
    interpreter of this process. Of several ``settings`` the fastest is taken for each workload. ``form`` makes of a
    model what the engine reads; None is the same file. ``bits`` are those of a weight of the body and of the head where
    they are not the file's. ``can_limit_isa`` says that it can be held to an older instruction set. ``start_script`` of
    first_token_scripts prints its first token.
    """

    name: str
    module: str
    environment: str | None = None
    options: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = (Setting(),)
    form: Callable[[Path], Path] | None = None
    bits: str | None = None
    has_logits: bool = False
    can_limit_isa: bool = False
    start_script: str | None = None

    def start(self, model: Path, num_threads: int, *, setting: Setting, isa: str | None) -> Worker:
        """A worker with ``model``, which is of its form. ``isa`` None is the best that the machine has.

        Raises WorkerFailed, and what ``environments.ensure`` raises.
        """
        command = [str(self.interpreter(setting, isa)), "-m", f"bench.peers.workers.{self.module}"]
        command += ["--model", str(model), "--threads", str(num_threads), *self.options, *setting.options]
        variables = {"LEPTON_CPU_ISA": isa} if isa and self.environment is None else {}
        return Worker(command, {**variables, **setting.variables})

    def interpreter(self, setting: Setting, isa: str | None = None) -> Path:
        """What runs it. Raises what ``environments.ensure`` raises."""
        name = setting.environment or self.environment
        return Path(sys.executable) if name is None else environments.ensure(_for_isa(name, isa))

    def fingerprint(self, isa: str | None) -> str:
        """Of all that its rates depend on but the model and the machine, without starting it."""
        parts = [
            self.module,
            *self.options,
            repr(self.settings),
            isa or "",
            (_PEERS / "workers" / f"{self.module}.py").read_text(),
        ]
        if self.environment is None:
            parts.append(own_digest())
        else:
            parts += [environments.describe(_for_isa(each, isa)) for each in self._environments()]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]

    def launch_fingerprint(self) -> str:
        """The same for its launches: Lepton's run through more of it, the others' through their scripts."""
        if self.environment is None:
            return own_digest(is_whole=True)
        script = (_PEERS / "first_token_scripts" / self.start_script).read_text() if self.start_script else ""
        return hashlib.sha256(f"{self.fingerprint(None)}\0{script}".encode()).hexdigest()[:16]

    def _environments(self) -> list[str]:
        names = (setting.environment or self.environment for setting in self.settings)
        return [name for name in names if name is not None]


def _for_isa(environment: str, isa: str | None) -> str:
    return f"{environment}-{isa}" if isa else environment
