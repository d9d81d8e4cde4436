"""``lepton bench --trace``: runs a mixed load and writes what the engine did as a picture or as events."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from lepton_ai.cli.output import printable
from lepton_ai.cli.random_prompts import RandomPrompts
from lepton_ai.cli.trace.chrome import chrome_trace
from lepton_ai.cli.trace.load import mixed_load, run_load
from lepton_ai.cli.trace.summary import TraceSummary, summarize
from lepton_ai.cli.trace.timeline import make_timeline
from lepton_ai.cli.trace.timeline_svg import draw_timeline
from lepton_ai.engine.llm import LLM
from lepton_ai.engine.trace import StepTrace
from lepton_ai.errors import InvalidRequest, StorageError

SUFFIXES = (".svg", ".html", ".json")


def check_trace_path(path: Path) -> None:
    """Raise InvalidRequest for a file that no writer is for, or whose folder is not there: before minutes of work."""
    if path.suffix not in SUFFIXES:
        expected = f"expected a file called *{', *'.join(SUFFIXES[:-1])} or *{SUFFIXES[-1]}"
        raise InvalidRequest(f"--trace: {expected}, got {path.name!r}", param="trace")
    if not path.parent.is_dir():
        raise InvalidRequest(f"--trace: there is no folder {path.parent}", param="trace")


def trace_load(llm: LLM, path: Path, seed: int) -> TraceSummary:
    """Run the mixed load and write its trace. Raises StorageError if the file cannot be written."""
    info = llm.model_info
    requests = mixed_load(RandomPrompts(llm.tokenizer, seed), info.max_model_len, seed)
    steps = run_load(llm, requests)
    summary = summarize(steps)
    # The warm-up came before the load's own requests, which are numbered in their order.
    first = min(arrival.request_id for step in steps for arrival in step.arrivals)
    names = {first + index: request.name for index, request in enumerate(requests)}
    title = f"Lepton: a mixed load on {Path(info.name).name} ({info.num_threads} threads, {info.isa})"
    text = _render(path.suffix, steps, summary, names, title)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"--trace: cannot write {path}: {error.strerror}", param="trace") from None
    return summary


def _render(
    suffix: str, steps: Sequence[StepTrace], summary: TraceSummary, names: Mapping[int, str], title: str
) -> str:
    if suffix == ".json":
        return json.dumps(chrome_trace(steps, names), separators=(",", ":")) + "\n"
    picture = draw_timeline(make_timeline(steps, names), summary, title)
    return picture if suffix == ".svg" else _page(picture, summary, title)


def _page(picture: str, summary: TraceSummary, title: str) -> str:
    """A page that holds the picture, in which the pointer gets numbers, and the seconds as a table."""
    time = summary.time
    rows = [("kernels", part, seconds) for part, seconds in time.kernels.items()]
    rows += [("Python", part, seconds) for part, seconds in time.python.items()]
    rows += [("between steps", "", time.waiting_share * time.seconds)]
    cells = "\n".join(
        f"<tr><td>{where}</td><td>{part}</td><td>{1e3 * seconds:.2f}</td><td>{100 * time.share(seconds):.2f}</td></tr>"
        for where, part, seconds in rows
    )
    return f"""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{html.escape(printable(title))}</title>
<style>
body {{ margin: 16px; font: 14px system-ui, sans-serif; color: #222; background: #fff }}
svg {{ max-width: 100%; height: auto }}
td, th {{ padding: 2px 14px 2px 0; text-align: left }}
td:nth-child(n + 3), th:nth-child(n + 3) {{ text-align: right }}
</style>
{picture}
<table>
<tr><th>time in</th><th>part</th><th>ms</th><th>%</th></tr>
{cells}
</table>
</html>
"""
