"""Sixty-four attackers at once, and an honest client among them who must not notice."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from tests.serve.attacks.harness import CHAT, COMPLETIONS, HONEST, Heartbeat, Target
from tests.serve.attacks.test_attack_bodies import chat_floods, floods
from tests.serve.attacks.test_attack_schemas import OBEYED, REFUSED, asked

NUM_ATTACKERS = 64
LONGEST_S = 1.0
"""What all of them together may keep the event loop. On an idle machine it is about 0.2 s, and was seconds once."""


def attacks() -> list[tuple[str, bytes]]:
    """One for each attacker: floods, schemas, and requests that hold what they are given."""
    rng = random.Random(1)
    bodies = [(COMPLETIONS, body) for name, body in floods().items() if not name.endswith(" in a text")]
    bodies += [(CHAT, body) for name, body in chat_floods().items() if name != "part text"]
    schemas = [*REFUSED.values(), *OBEYED.values()]
    bodies += [(CHAT, json.dumps(asked(schema)).encode()) for schema in rng.sample(schemas, 20)]
    greedy = {"model": "tiny", "prompt": "x", "n": 64, "max_tokens": 200, "ignore_eos": True, "stream": True}
    bodies += [(COMPLETIONS, json.dumps(greedy | {"user": str(i)}).encode()) for i in range(4)]
    scored = {"model": "tiny", "prompt": ["y" * 100] * 40, "echo": True, "logprobs": 20, "max_tokens": 1}
    bodies += [(COMPLETIONS, json.dumps(scored).encode())] * 4
    bodies += [(COMPLETIONS, b"{")] * (NUM_ATTACKERS - len(bodies))
    rng.shuffle(bodies)
    assert len(bodies) == NUM_ATTACKERS
    return bodies


def honest_streams(target: Target, attackers: subprocess.Popen[bytes]) -> Iterator[tuple[str, float]]:
    """The texts that an honest client gets, one stream after the other, and how long each takes."""
    body = HONEST | {"stream": True}
    with httpx.Client(timeout=60) as client:
        while attackers.poll() is None:
            begin = time.perf_counter()
            lines = client.post(target.server.url + COMPLETIONS, json=body).text.split("\n\n")
            seconds = time.perf_counter() - begin
            assert lines[-2:] == ["data: [DONE]", ""], lines
            pieces = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
            yield "".join(piece["choices"][0]["text"] for piece in pieces), seconds


def test_an_honest_client_among_attackers(target: Target, tmp_path: Path) -> None:
    """The attackers are another process, so that its threads do not keep the server's waiting."""
    assert target.server.loop is not None
    requests = tmp_path / "requests"
    requests.write_bytes(pickle.dumps(attacks()))
    host, port = target.address
    command = [sys.executable, "-m", "tests.serve.attacks.attackers", host, str(port), str(requests)]
    with (
        Heartbeat(target.server.loop) as beat,
        subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as attackers,
    ):
        got = list(honest_streams(target, attackers))
        assert attackers.stdout is not None
        statuses = json.loads(attackers.stdout.read())
    print(f"{len(got)} streams, the longest {max(s for _, s in got):.2f} s; loop kept for {beat.longest_s:.3f} s")
    assert sum(statuses.values()) == NUM_ATTACKERS and set(statuses) <= {"200", "400", "404", "429"}, statuses
    assert {text for text, _ in got} == {target.honest}
    assert max(seconds for _, seconds in got) < 10
    assert beat.longest_s < LONGEST_S
