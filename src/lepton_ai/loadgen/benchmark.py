"""A measurement from end to end: who is there, does it take such requests, then the loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lepton_ai.errors import InvalidRequest
from lepton_ai.loadgen.address import Address
from lepton_ai.loadgen.failures import Refused
from lepton_ai.loadgen.lengths import Lengths
from lepton_ai.loadgen.objectives import Objectives
from lepton_ai.loadgen.prompt_file import FilePrompt, FileWorkload
from lepton_ai.loadgen.run import Load, Progress, run_load, warm_up
from lepton_ai.loadgen.statistics import Report, report
from lepton_ai.loadgen.synthetic import Pool, Shape, SyntheticWorkload
from lepton_ai.loadgen.target import Target
from lepton_ai.loadgen.workload import Workload

_UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True)
class FilePrompts:
    """Prompts of a file; ``output_tokens`` for those that do not say how many they want."""

    prompts: Sequence[FilePrompt]
    output_tokens: Lengths
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure. ``model`` None is the first that the server names. ``num_warmup`` requests come before the first
    load and are not measured."""

    address: Address
    source: Shape | FilePrompts
    loads: Sequence[Load]
    seed: int
    model: str | None = None
    api_key: str | None = field(default=None, repr=False)
    num_warmup: int = 1
    timeout_s: float = 600.0
    objectives: Objectives | None = None


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What was measured. ``prompt_form`` says what prompts are: a file's, or "ids", "texts" or "chats" of words."""

    model: str
    server_version: str | None
    prompt_form: str
    reports: Sequence[Report]


async def run_benchmark(plan: Plan, progress: Progress) -> Benchmark:
    """Run the loads of a plan one after another. Raises RequestFailed if the server is not there, or refuses the first
    request; what fails later is counted."""
    target = Target(plan.address, plan.api_key, timeout_s=plan.timeout_s)
    try:
        version = await target.version()
        model = plan.model or await _first_model(target)
        workload, form = await _make_workload(plan, target, model)
        await warm_up(target, workload, plan.num_warmup)
        reports = []
        for load in plan.loads:
            # Arrivals are the same for all rates but for their scale: rows differ by the rate alone.
            measurement = await run_load(target, workload, load, seed=plan.seed, progress=progress)
            reports.append(report(measurement, plan.objectives))
    except Refused as error:
        raise _explained(error, ignores_eos=plan.source.ignore_eos) from None
    finally:
        await target.close()
    return Benchmark(model, version, form, reports)


async def _first_model(target: Target) -> str:
    models = await target.model_ids()
    if not models:
        raise InvalidRequest("model: expected a name, as the server names none", param="model")
    return models[0]


async def _make_workload(plan: Plan, target: Target, model: str) -> tuple[Workload, str]:
    source = plan.source
    if isinstance(source, FilePrompts):
        made = FileWorkload(model, source.prompts, source.output_tokens, seed=plan.seed, ignore_eos=source.ignore_eos)
        return made, "a file's"
    pool = await Pool.ask(target, model)
    form = "chats" if source.is_chat else "texts" if pool.ids is None else "ids"
    return SyntheticWorkload(model, source, pool, seed=plan.seed), form


def _explained(error: Refused, *, ignores_eos: bool) -> Refused | InvalidRequest:
    """With what can be done about it."""
    if ignores_eos and error.http_status in (400, 422) and "ignore_eos" in error.server_message:
        return InvalidRequest(
            f"ignore_eos: the server does not know it: {error.server_message}; with --no-ignore-eos it is not sent",
            param="ignore_eos",
        )
    if error.http_status == _UNAUTHORIZED:
        return Refused(
            error.http_status, error.server_code, f"{error.server_message}; the key that is sent is LEPTON_API_KEY's"
        )
    return error
