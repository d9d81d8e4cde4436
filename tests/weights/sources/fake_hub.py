"""A model hub on the loopback: the routes that ``huggingface_hub`` asks for, and what goes wrong with them.

``serve_hub`` runs one and points ``huggingface_hub`` at it, so any test can offer a folder's files as a repository.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest

_LARGE = (".safetensors", ".gguf", ".bin")
_RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_INFO = re.compile(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?")


def commit_of(label: str) -> str:
    """A made-up commit."""
    return hashlib.sha1(label.encode()).hexdigest()


@dataclass
class FakeRepository:
    """A repository with one state: branch ``main`` is at ``commit``, which holds ``files``."""

    files: dict[str, bytes]
    commit: str = field(default_factory=lambda: commit_of("first"))
    licence: str | None = "mit"
    token: str | None = None
    is_gated: bool = False

    def sha256(self, name: str) -> str:
        """What the hub says of a large file."""
        return hashlib.sha256(self.files[name]).hexdigest()

    def info(self, name: str) -> dict[str, object]:
        """The answer about this repository, called ``name``."""
        siblings: list[dict[str, object]] = []
        for path, data in self.files.items():
            entry: dict[str, object] = {"rfilename": path, "size": len(data), "blobId": commit_of(path)}
            if path.endswith(_LARGE):
                entry["lfs"] = {"sha256": self.sha256(path), "size": len(data), "pointerSize": 134}
            siblings.append(entry)
        tags = [f"license:{self.licence}"] if self.licence else []
        return {"id": name, "modelId": name, "sha": self.commit, "tags": tags, "siblings": siblings}


@dataclass
class HubFault:
    """What one answer does instead of the right thing. ``body`` is sent in place of the file or page."""

    status: int | None = None
    cut_after_bytes: int | None = None
    stall_s: float = 0.0
    body: bytes | None = None


@dataclass
class FakeHub:
    """The state of the server. ``faults[path]`` is used up from the front, one for each GET of the path."""

    url: str = ""
    cdn: str = ""
    repositories: dict[str, FakeRepository] = field(default_factory=dict)
    faults: dict[str, list[HubFault]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def add(self, name: str, files: Mapping[str, bytes] | Path) -> FakeRepository:
        """Offer these files, or those of a folder, as ``name``."""
        if isinstance(files, Path):
            files = {str(p.relative_to(files)): p.read_bytes() for p in sorted(files.rglob("*")) if p.is_file()}
        self.repositories[name] = FakeRepository(dict(files))
        return self.repositories[name]

    def fetched(self) -> list[str]:
        """The names of the files that were asked for with GET, in order; of a large one, its sha256."""
        paths = [path for method, path, _ in self.requests if method == "GET" and not path.startswith("/api/")]
        return [path.split("/", 5)[-1] if "/resolve/" in path else path.rpartition("/")[2] for path in paths]

    def blob(self, digest: str) -> bytes | None:
        """A large file by its sha256."""
        large = ((r, n) for r in self.repositories.values() for n in r.files if n.endswith(_LARGE))
        return next((r.files[n] for r, n in large if r.sha256(n) == digest), None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._route(HubFault())

    def do_GET(self) -> None:
        waiting = self.hub.faults.get(urlsplit(self.path).path, [])
        self._route(waiting.pop(0) if waiting else HubFault())

    def _route(self, fault: HubFault) -> None:
        path = urlsplit(self.path).path
        if not path.startswith("/api/") or _INFO.fullmatch(path):  # what the library asks for itself does not matter
            self.hub.requests.append((self.command, path, {k.lower(): v for k, v in self.headers.items()}))
        if fault.status is not None:
            return self._answer(fault.status, {}, b"fault")
        if (match := _INFO.fullmatch(path)) and (repository := self._repository(match[1], match[2])):
            body = fault.body if fault.body is not None else json.dumps(repository.info(match[1])).encode()
            return self._answer(200, {"Content-Type": "application/json"}, body, fault)
        if (match := _RESOLVE.fullmatch(path)) and (repository := self._repository(match[1], match[2])):
            return self._resolve(repository, unquote(match[3]), fault)
        if path.startswith("/cdn/") and (data := self.hub.blob(path.rpartition("/")[2])) is not None:
            return self._bytes(fault.body or data, {"ETag": f'"{path.rpartition("/")[2]}"'}, fault)
        if not match:
            self._answer(404, {}, b"nothing here")

    def _repository(self, name: str, revision: str | None) -> FakeRepository | None:
        """The repository, or None when a refusal has been sent."""
        repository = self.hub.repositories.get(name)
        is_allowed = repository and repository.token in (None, self.headers.get("Authorization", "").split(" ")[-1])
        if repository is None or (not is_allowed and not repository.is_gated):
            self._answer(401, {"X-Error-Code": "RepoNotFound"}, b"{}")
        elif not is_allowed:
            status = 403 if self.headers.get("Authorization") else 401
            self._answer(status, {"X-Error-Code": "GatedRepo"}, b"{}")
        elif revision not in (None, "main", repository.commit):
            self._answer(404, {"X-Error-Code": "RevisionNotFound"}, b"{}")
        else:
            return repository
        return None

    def _resolve(self, repository: FakeRepository, name: str, fault: HubFault) -> None:
        headers = {"X-Repo-Commit": repository.commit}
        data = repository.files.get(name)
        if data is None:
            return self._answer(404, {**headers, "X-Error-Code": "EntryNotFound"}, b"{}")
        if not name.endswith(_LARGE):
            return self._bytes(fault.body or data, {**headers, "ETag": f'"{commit_of(name)}"'}, fault)
        digest = repository.sha256(name)
        headers |= {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        self._answer(302, {**headers, "Location": f"{self.hub.cdn}/cdn/{digest}?Signature=hunter2"}, b"")

    def _bytes(self, data: bytes, headers: Mapping[str, str], fault: HubFault) -> None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match is None:
            return self._answer(200, headers, data, fault)
        start = int(match[1])
        ranged = {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        self._answer(206, ranged, data[start:], fault)

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes, fault: HubFault | None = None) -> None:
        fault = fault or HubFault()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: fault.cut_after_bytes])
            self.wfile.flush()
            time.sleep(fault.stall_s)
        self.close_connection = self.close_connection or fault.cut_after_bytes is not None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Quiet: a client that hangs up is part of the tests."""


@contextmanager
def serve_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A running hub, which ``huggingface_hub`` asks in this process: without a token, without pauses."""
    import huggingface_hub.constants as constants

    hub = FakeHub()
    with _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub})) as server:
        # Two names of the loopback are two hosts: what holds files must not get what the hub gets.
        hub.url, hub.cdn = (f"http://{host}:{server.server_port}" for host in ("127.0.0.1", "localhost"))
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent/token")
        hasty = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
        for module in ("huggingface_hub.file_download", "huggingface_hub.utils._http"):
            monkeypatch.setattr(f"{module}.time", hasty)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
