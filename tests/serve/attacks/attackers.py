"""Attackers, in a process of their own: ``python -m tests.serve.attacks.attackers HOST PORT FILE``.

FILE is a pickle of requests, each a path and a body; all are sent at once. Prints how often each status came.
"""

from __future__ import annotations

import http.client
import json
import pickle
import sys
import threading
from collections import Counter
from pathlib import Path


def send(address: tuple[str, int], path: str, body: bytes, statuses: Counter[int]) -> None:
    """Send it and read the answer, or leave after a kilobyte of it."""
    connection = http.client.HTTPConnection(*address, timeout=120)
    connection.request("POST", path, body, {"content-type": "application/json"})
    answer = connection.getresponse()
    statuses[answer.status] += 1
    answer.read(1000)
    connection.close()


def main() -> None:
    """As the module says."""
    host, port, file = sys.argv[1:]
    statuses: Counter[int] = Counter()
    requests: list[tuple[str, bytes]] = pickle.loads(Path(file).read_bytes())
    threads = [threading.Thread(target=send, args=((host, int(port)), path, body, statuses)) for path, body in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(statuses))


if __name__ == "__main__":
    main()
