from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from tests.cli.trace.traced import some_steps, step

from lepton_ai.cli.svg import Svg
from lepton_ai.cli.trace.summary import summarize
from lepton_ai.cli.trace.timeline import make_timeline
from lepton_ai.cli.trace.timeline_svg import describe, draw_timeline
from lepton_ai.engine.trace import Arrival, StepTrace

NAMESPACE = "{http://www.w3.org/2000/svg}"
LEFT, PLOT = 210.0, 974.0


def parse(document: str) -> ElementTree.Element:
    root = ElementTree.fromstring(document)
    assert root.tag == NAMESPACE + "svg"
    return root


def draw(steps: list[StepTrace], names: dict[int, str] | None = None) -> ElementTree.Element:
    return parse(draw_timeline(make_timeline(steps, names), summarize(steps), "a <title> & more"))


def titled(root: ElementTree.Element, css: str) -> list[tuple[float, float, str]]:
    """Left edge, width and title of the shapes of a class that have a title."""
    found = []
    for rect in root.iter(NAMESPACE + "rect"):
        title = rect.find(NAMESPACE + "title")
        if rect.get("class") == css and title is not None:
            found.append((float(rect.get("x", "")), float(rect.get("width", "")), title.text or ""))
    return found


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(NAMESPACE + "text")]


def test_bars_stand_where_their_time_is() -> None:
    root = draw(some_steps(), {4: "chat"})
    scale = PLOT / 59
    prompts, decodes, waits = (titled(root, css) for css in ("prompt", "decode", "waiting"))
    assert (len(prompts), len(decodes), len(waits)) == (4, 4, 4)
    x, width, title = prompts[0]
    assert x == pytest.approx(LEFT + scale, abs=0.05) and width == pytest.approx(8 * scale - 0.7, abs=0.05)
    assert title == (
        "request 3: 30 prompt tokens, 30 of them computed here, 4 output tokens\n"
        "30 tokens of the prompt in one step, 1.00 s to 9.00 s"
    )
    x, width, title = decodes[0]
    assert x == pytest.approx(LEFT + 11 * scale, abs=0.05) and width == pytest.approx(28 * scale - 0.7, abs=0.05)
    assert title.endswith("3 decode steps, 11.00 s to 39.00 s, 9.33 s each")
    assert waits[2][2].startswith("request 4 (chat): 10 prompt tokens, 21 of them computed here")
    marks = [p for p in root.iter(NAMESPACE + "path") if p.get("class") == "preempted" and len(p)]
    assert [mark[0].text for mark in marks] == [
        "request 4 (chat): 10 prompt tokens, 21 of them computed here, 4 output tokens\npre-empted at 21.00 s"
    ]
    assert {"a <title> & more", "4  chat", "10 + 4", "0 s", "50 s"} <= set(texts(root))


def test_charts_add_up() -> None:
    root = draw(some_steps())
    columns = titled(root, "hit")
    assert len(columns) == 6
    assert columns[1][2] == (
        "step 1, 11.00 s to 21.00 s\n"
        "0 prompt and 2 decode tokens\n"
        "kernels 60.0 %: matrix products 4.00 s, attention 1.00 s, other ops 1.00 s\n"
        "Python 20.0 %: schedule 500.0 ms, inputs and call 750.0 ms, update 250.0 ms, text 500.0 ms\n"
        "then 2 running, 1 waiting, 25 % of KV memory"
    )
    heights = {}
    for path in root.iter(NAMESPACE + "path"):
        if (path.get("class") or "").endswith(" part"):
            boxes = re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)H", path.get("d") or "")
            heights[path.get("class")] = [float(low) - float(high) for low, high in boxes]
    # In a chart 58 pixels high, the second column of 10 s: 4 s of products, and 2 s of Python on a scale to half.
    assert heights["k0 part"][1] == pytest.approx(58 * 0.4, abs=0.11)
    assert sum(heights[f"p{i} part"][1] for i in range(4)) == pytest.approx(58 * 0.2 / 0.5, abs=0.5)
    assert heights["memory part"] == [pytest.approx(58 * 0.25, abs=0.11)] * 6
    assert len(heights["prompt part"]) == 2 and len(heights["decode part"]) == 5


def test_many_requests_and_steps_stay_small() -> None:
    arrivals = tuple(Arrival(n, 99.0, 5) for n in range(64))
    steps = [step(100.0, *((n, 5, 0) for n in range(64)), arrivals=arrivals)]
    steps += [step(100.0 + 8 * i, *((n, 0, 1) for n in range(64))) for i in range(1, 4000)]
    document = draw_timeline(make_timeline(steps), summarize(steps), "many")
    root = parse(document)
    assert len(document) < 200_000
    assert len(titled(root, "decode")) == 64 and 100 < len(titled(root, "hit")) < 250
    assert 64 * 10 < float(root.get("height", "")) < 1300


def test_the_summary_as_a_line() -> None:
    assert describe(summarize(some_steps())) == (
        "3 requests  ·  6 steps in 59.00 s  ·  58 prompt and 7 decode tokens computed  ·  "
        "time: 61.0 % kernels, 20.3 % Python, 18.6 % between steps"
    )


def test_names_from_outside_are_text() -> None:
    svg = Svg(10, 20.25, title='"<&>\x1b[0m', style="")
    svg.text(1, 2, "</text><script>\ud800\x00", css="a")
    svg.rect(0, 0, 1.04, 1.06, css="b", title="first\nsecond ]]> &amp;")
    svg.path("M0 0", css="c")
    root = parse(svg.to_text())
    assert root.find(NAMESPACE + "title").text == '"<&>\ufffd[0m'  # type: ignore[union-attr]
    assert texts(root) == ["</text><script>\ufffd\ufffd"]
    (rect,) = root.iter(NAMESPACE + "rect")
    assert rect[0].text == "first\nsecond ]]> &amp;" and (rect.get("width"), rect.get("height")) == ("1", "1.1")
    assert [path.attrib for path in root.iter(NAMESPACE + "path")] == [{"d": "M0 0", "class": "c"}]
