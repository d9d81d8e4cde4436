"""A client of the Python Simple Repository API: PEP 503 (HTML) and PEP 691 (JSON)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from lepton_ai.errors import DownloadFailed
from lepton_ai.weights.sources.pip_config import IndexConfig
from lepton_ai.weights.sources.transport import TransferError, Transport
from lepton_ai.weights.sources.urls import host_of, local_path, mask

_JSON = "application/vnd.pypi.simple.v1+json"
_ACCEPT = f"{_JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_MAX_PAGE_BYTES = 16 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Link:
    """A file that an index offers. ``sha256`` and ``size_bytes`` are None where the index does not say."""

    filename: str
    url: str
    sha256: str | None = None
    size_bytes: int | None = None


class PackageIndex:
    """All the indexes and link pages of a configuration, asked in pip's order."""

    def __init__(self, config: IndexConfig, transport: Transport) -> None:
        self._config = config
        self._transport = transport

    def find_wheel(self, package: str, version: str) -> Link:
        """The wheel of exactly this version from the first source that has it.

        A source without the package is passed over, as pip does. Raises DownloadFailed if none has it, with what went
        wrong at the sources that could not be read.
        """
        sources = [*self._config.find_links, *(_project_url(url, package) for url in self._config.index_urls)]
        problems: list[str] = []
        for source in sources:
            try:
                links = self._links(source)
            except DownloadFailed as error:
                problems.append(error.message)
                continue
            for link in links:
                if _is_wheel_of(link.filename, package, version):
                    return link
        if problems:
            raise DownloadFailed("; ".join(dict.fromkeys(problems)))
        asked = ", ".join(dict.fromkeys(mask(url) for url in (*self._config.find_links, *self._config.index_urls)))
        raise DownloadFailed(
            f"no wheel of {package} {version} at {asked or 'any index (pip is told no-index)'}; "
            "name an index that carries it in LEPTON_INDEX_URL"
        )

    def _links(self, url: str) -> list[Link]:
        if urlsplit(url).scheme == "file":
            return _local_links(url)
        backoff = self._transport.backoff()
        while True:
            try:
                return self._fetch_page(url)
            except TransferError as error:
                if error.status in (404, 410):
                    return []
                backoff.pause(error)

    def _fetch_page(self, url: str) -> list[Link]:
        with self._transport.open(url, {"Accept": _ACCEPT, "Accept-Encoding": "identity"}) as response:
            body = bytearray()
            while chunk := response.read(1 << 16):
                body += chunk
                if len(body) > _MAX_PAGE_BYTES:
                    raise DownloadFailed(f"{mask(url)}: the index page is larger than {_MAX_PAGE_BYTES >> 20} MiB")
            kind = (response.header("Content-Type") or "").partition(";")[0].strip().lower()
            return parse_page(bytes(body), content_type=kind, url=response.url)


def parse_page(body: bytes, *, content_type: str, url: str) -> list[Link]:
    """The links of a project page. Raises DownloadFailed if it is neither form of the Simple API."""
    if content_type == _JSON:
        return _parse_json(body, url)
    if content_type in ("text/html", "application/vnd.pypi.simple.v1+html", "application/xhtml+xml"):
        return _parse_html(body, url)
    raise DownloadFailed(
        f"{mask(url)}: expected an index page, got content type {content_type or 'none'!r}; is this a package index?"
    )


def _parse_json(body: bytes, url: str) -> list[Link]:
    try:
        page = json.loads(body)
        major = str(page["meta"]["api-version"]).partition(".")[0]
        links = [_json_link(entry, url) for entry in page["files"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DownloadFailed(f"{mask(url)}: the index's JSON is not what PEP 691 describes") from None
    if major != "1":
        raise DownloadFailed(f"{mask(url)}: expected version 1 of the Simple API, got {major!r}")
    return [link for link in links if link is not None]


def _json_link(entry: dict[str, object], base: str) -> Link | None:
    hashes, size = entry.get("hashes"), entry.get("size")
    digest = hashes.get("sha256") if isinstance(hashes, dict) else None
    return _link(
        str(entry["url"]),
        base=base,
        page=base,
        sha256=digest if isinstance(digest, str) else None,
        size_bytes=size if isinstance(size, int) and size >= 0 else None,
    )


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.base: str | None = None
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if href and tag == "a":
            self.hrefs.append(href)
        elif href and tag == "base" and self.base is None:
            self.base = href


def _parse_html(body: bytes, url: str) -> list[Link]:
    parser = _Anchors()
    parser.feed(body.decode("utf-8", "replace"))
    parser.close()
    base = urljoin(url, parser.base) if parser.base else url
    links = (_link(href, base=base, page=url, sha256=None, size_bytes=None) for href in parser.hrefs)
    return [link for link in links if link is not None]


def _link(href: str, *, base: str, page: str, sha256: str | None, size_bytes: int | None) -> Link | None:
    """``base`` is what a relative ``href`` is relative to; ``page`` is where it was read.

    None for what cannot be a file of this index: a page from the network must not name files of this machine."""
    try:
        url, fragment = urldefrag(urljoin(base, href.strip()))
        parts = urlsplit(url)
    except ValueError:
        return None
    is_local_page = urlsplit(page).scheme == "file"
    if parts.scheme not in ("http", "https", "file") or (parts.scheme == "file" and not is_local_page):
        return None
    name, _, value = fragment.partition("=")
    digest = (value if name == "sha256" else sha256 or "").lower()
    return Link(
        filename=unquote(parts.path.rpartition("/")[2]),
        url=parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),
        sha256=digest if _SHA256.fullmatch(digest) else None,
        size_bytes=size_bytes,
    )


def _local_links(url: str) -> list[Link]:
    path = local_path(url)
    if path is None:
        raise DownloadFailed(f"{host_of(url)}: a file URL must name this machine")
    page = path / "index.html" if path.is_dir() else path
    try:
        if page.is_file():
            return _parse_html(page.read_bytes(), page.as_uri())
        return [Link(f.name, f.as_uri(), size_bytes=f.stat().st_size) for f in _wheels(path)]
    except OSError as error:
        raise DownloadFailed(f"{page}: {error.strerror}") from None


def _wheels(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.whl")) if folder.is_dir() else []


def _project_url(index_url: str, package: str) -> str:
    return f"{index_url.rstrip('/')}/{_normalise(package)}/"


def _normalise(package: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", package).lower()


def _is_wheel_of(filename: str, package: str, version: str) -> bool:
    """Whether a wheel's file name (binary distribution format, PEP 427) is of this package and version."""
    fields = filename.removesuffix(".whl").split("-")
    is_wheel = filename.endswith(".whl") and len(fields) in (5, 6)
    return is_wheel and _normalise(fields[0]) == _normalise(package) and fields[1] == version
