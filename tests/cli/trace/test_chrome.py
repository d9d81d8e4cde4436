from __future__ import annotations

import json
from typing import Any

from tests.cli.trace.traced import some_steps

from lepton_ai.cli.trace.chrome import chrome_trace


def events(names: dict[int, str] | None = None) -> list[dict[str, Any]]:
    document = json.loads(json.dumps(chrome_trace(some_steps(), names), allow_nan=False))
    assert document["displayTimeUnit"] == "ms"
    made = document["traceEvents"]
    assert isinstance(made, list)
    return made


def test_every_event_has_what_the_format_asks_for() -> None:
    for event in events():
        assert isinstance(event["name"], str) and event["ph"] in ("X", "M", "C", "i")
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
        if event["ph"] != "M":
            assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 0
        if event["ph"] == "i":
            assert event["s"] == "t"


def test_parts_of_a_step_fill_it() -> None:
    spans = [e for e in events() if e["ph"] == "X" and e["pid"] == 1]
    whole, *parts = spans[6:12]
    assert (whole["name"], whole["ts"], whole["dur"]) == ("step 1", 11e6, 8e6)
    assert whole["args"] == {"prompt_tokens": 0, "decode_tokens": 2}
    assert [(p["name"], p["ts"], p["dur"]) for p in parts] == [
        ("schedule", 11e6, 0.5e6),
        ("inputs and call", 11.5e6, 0.75e6),
        ("kernels", 12.25e6, 6e6),
        ("update", 18.25e6, 0.25e6),
        ("text", 18.5e6, 0.5e6),
    ]
    assert parts[2]["args"]["linear_us"] == 4e6


def test_requests_have_threads_of_their_own() -> None:
    made = events({4: "chat"})
    names = {e["tid"]: e["args"]["name"] for e in made if e["name"] == "thread_name" and e["pid"] == 2}
    assert names == {3: "3", 4: "4 chat", 5: "5"}
    of_4 = [(e["name"], e["ts"], e.get("dur")) for e in made if e["pid"] == 2 and e["tid"] == 4 and e["ph"] != "M"]
    assert of_4 == [
        ("arrival", 0.5e6, None),
        ("prompt", 1e6, 8e6),
        ("decode", 11e6, 8e6),
        ("pre-emption", 21e6, None),
        ("prompt", 41e6, 8e6),
        ("decode", 51e6, 8e6),
    ]
    counts = [e["args"] for e in made if e["ph"] == "C" and e["name"] == "requests"]
    assert counts == [{"running": 2, "waiting": 1}] * 6
