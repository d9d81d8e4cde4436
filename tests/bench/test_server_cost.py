from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

from bench.server_cost import cpu_seconds, stream
from tests.engine.tiny_gguf import tiny_gguf
from tests.serve.running import running


def test_cpu_time_counts_all_threads() -> None:
    before = cpu_seconds(os.getpid())
    end = time.thread_time() + 0.05

    def burn() -> None:
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass

    thread = threading.Thread(target=burn)
    thread.start()
    while time.thread_time() < end:
        pass
    inside = cpu_seconds(os.getpid()) - before  # of a thread that has ended, nothing is known
    thread.join()
    assert 0.05 <= inside < 1.0


def test_a_stream_is_counted(tmp_path: Path) -> None:
    with running({"tiny": tiny_gguf(tmp_path / "tiny.gguf")}) as server:
        port = int(server.url.rpartition(":")[2])
        first, num_events = asyncio.run(stream(port, [5, 6, 7], 12, "tiny"))
    assert 0 < first < 60 and 1 <= num_events <= 13
