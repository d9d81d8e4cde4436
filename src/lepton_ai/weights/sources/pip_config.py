"""The package indexes that pip is configured for, found without pip.

The files, their order and the precedence of their sections are those of pip's own documentation
(https://pip.pypa.io/en/stable/topics/configuration/): global, user and site files, then PIP_CONFIG_FILE, then ``PIP_*``
variables; within each, ``[global]``, then ``[download]``, then ``[install]``.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lepton_ai.errors import InvalidRequest
from lepton_ai.weights.sources.urls import Credentials, CredentialStore, origin, split_url

DEFAULT_INDEX_URL = "https://pypi.org/simple"
_SECTIONS = ("global", "download", "install")
_TRUE, _FALSE = frozenset({"y", "yes", "t", "true", "on", "1"}), frozenset({"n", "no", "f", "false", "off", "0"})


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """How to reach the package indexes. URLs hold no credentials: those are in ``credentials``."""

    index_urls: tuple[str, ...]
    find_links: tuple[str, ...] = ()
    credentials: CredentialStore = field(default_factory=lambda: CredentialStore({}), repr=False)
    cert: str | None = None
    client_cert: str | None = None
    proxy: str | None = field(default=None, repr=False)
    timeout_s: float = 15.0
    retries: int = 5


def read_index_config(
    index_url: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    prefix: str = sys.prefix,
    etc: str = "/etc",
) -> IndexConfig:
    """The configuration in force. ``index_url`` (LEPTON_INDEX_URL) replaces every index and link that pip knows.

    ``environ``, ``prefix`` and ``etc`` are what pip calls the environment, the site and the global configuration.
    Raises InvalidRequest for a file that is not in pip's format and for a value that does not parse.
    """
    env = os.environ if environ is None else environ
    options = _read_options(_config_files(env, prefix, etc), env)
    if index_url is not None:
        sources, links = [("LEPTON_INDEX_URL", index_url)], list[str]()
    else:
        sources, links = _sources(options)
    known: dict[tuple[str, str, int], Credentials] = {}
    return IndexConfig(
        index_urls=tuple(_register(param, url, known) for param, url in sources),
        find_links=tuple(_register("find-links", _as_url(link, env), known) for link in links),
        credentials=CredentialStore(known, Path(env.get("NETRC") or _home(env) / ".netrc")),
        cert=options.get("cert") or env.get("REQUESTS_CA_BUNDLE") or env.get("CURL_CA_BUNDLE") or None,
        client_cert=options.get("client-cert"),
        proxy=options.get("proxy"),
        timeout_s=_number(options, "timeout", "default-timeout", default=15.0),
        retries=int(_number(options, "retries", default=5)),
    )


def _sources(options: Mapping[str, str]) -> tuple[list[tuple[str, str]], list[str]]:
    links = options.get("find-links", "").split()
    if _boolean(options, "no-index"):
        return [], links
    main = options.get("index-url", DEFAULT_INDEX_URL)
    extra = options.get("extra-index-url", "").split()
    return [("index-url", main), *(("extra-index-url", url) for url in extra)], links


def _register(param: str, url: str, known: dict[tuple[str, str, int], Credentials]) -> str:
    bare, credentials = split_url(url, param=param)
    if credentials is not None:
        known.setdefault(origin(bare), credentials)
    return bare


def _as_url(link: str, env: Mapping[str, str]) -> str:
    """find-links may also be a path."""
    if "://" in link or link.startswith("file:"):
        return link
    path = _home(env) / link[2:] if link.startswith("~/") else Path(link)
    return path.absolute().as_uri()


def _read_options(files: Iterable[Path], env: Mapping[str, str]) -> dict[str, str]:
    merged: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for path in files:
        for section, values in _read_file(path).items():
            if section in merged:
                merged[section].update(values)
    variables = {
        key[4:].lower().replace("_", "-"): value
        for key, value in env.items()
        if key.startswith("PIP_") and value.strip() and key != "PIP_CONFIG_FILE"
    }
    return {**merged["global"], **merged["download"], **merged["install"], **variables}


def _config_files(env: Mapping[str, str], prefix: str, etc: str) -> Iterator[Path]:
    """Every file that may exist, the weakest first."""
    chosen = env.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return
    for folder in (env.get("XDG_CONFIG_DIRS") or f"{etc}/xdg").split(os.pathsep):
        yield Path(folder) / "pip" / "pip.conf"
    yield Path(etc) / "pip.conf"
    if not (chosen and os.path.exists(chosen)):
        yield _home(env) / ".pip" / "pip.conf"
        yield Path(env.get("XDG_CONFIG_HOME") or _home(env) / ".config") / "pip" / "pip.conf"
    # Lepton may live in an environment of its own while the user works, and runs pip, in another one.
    if env.get("VIRTUAL_ENV"):
        yield Path(env["VIRTUAL_ENV"]) / "pip.conf"
    yield Path(prefix) / "pip.conf"
    if chosen:
        yield Path(chosen)


def _read_file(path: Path) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except PermissionError:
        return {}
    except (configparser.Error, UnicodeDecodeError, OSError) as error:
        # The parser's own message quotes lines, and lines hold passwords.
        kind = type(error).__name__
        raise InvalidRequest(
            f"{path}: expected a pip configuration file, reading it gave {kind}", param="pip"
        ) from None
    return {
        section: {key.replace("_", "-").lstrip("-"): value for key, value in parser.items(section) if value.strip()}
        for section in parser.sections()
    }


def _home(env: Mapping[str, str]) -> Path:
    return Path(env.get("HOME") or Path.home())


def _boolean(options: Mapping[str, str], name: str) -> bool:
    value = options.get(name, "no").strip().lower()
    if value not in _TRUE | _FALSE:
        raise InvalidRequest(f"pip option {name}: expected yes or no, got {value!r}", param=name)
    return value in _TRUE


def _number(options: Mapping[str, str], *names: str, default: float) -> float:
    for name in names:
        if name in options:
            try:
                value = float(options[name])
            except ValueError:
                value = -1.0
            if not 0 <= value < 1e6:
                raise InvalidRequest(
                    f"pip option {name}: expected a number of at least 0, got {options[name]!r}", param=name
                )
            return value
    return default
