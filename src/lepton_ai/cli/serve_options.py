"""Options of ``lepton serve``, and what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lepton_ai.cli.options import parse_size
from lepton_ai.cli.output import print_note
from lepton_ai.config import Environment, Policy
from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.admission.options import AdmissionOptions
from lepton_ai.serve.life.options import LifeOptions

if TYPE_CHECKING:
    from lepton_ai.engine.remote.process import OptionValue
    from lepton_ai.serve.access.keys import KeyRing
    from lepton_ai.serve.access.options import AccessOptions
    from lepton_ai.serve.http.bounds import Bounds
    from lepton_ai.serve.metrics.monitoring import MonitoringOptions
    from lepton_ai.serve.server import ServeOptions
    from lepton_ai.serve.server_limits import ServerLimits


def _body_size(text: str) -> int:
    return parse_size(text, option="--max-body", param="max_body_bytes")


ApiKeys = Annotated[
    Path | None,
    typer.Option(help="File with the names and digests of keys, read again when it changes.", metavar="FILE"),
]
NoAuth = Annotated[bool, typer.Option("--no-auth", help="Serve everyone on this machine without a key.")]
TlsCert = Annotated[
    Path | None,
    typer.Option(help="Certificate, with those that lead to its root, in PEM: serve HTTPS.", metavar="FILE"),
]
TlsKey = Annotated[Path | None, typer.Option(help="Its key in PEM, without a password.", metavar="FILE")]
CorsOrigin = Annotated[
    list[str] | None,
    typer.Option(
        help="Site whose pages may use the server from a browser, * for any. May be repeated.", metavar="ORIGIN"
    ),
]
AccessLogFile = Annotated[
    str | None,
    typer.Option("--access-log", help="Write a line of JSON for each request, - to standard error.", metavar="FILE"),
]
MaxBody = Annotated[
    int | None,
    typer.Option(metavar="SIZE", parser=_body_size, help="Largest request, such as 512KiB or 8MiB. Default: 4MiB."),
]
MaxConnections = Annotated[int, typer.Option(min=1, help="Connections that are open together.")]
ClientTimeout = Annotated[
    float, typer.Option(min=1, help="Seconds that a client may take to send a request, or leave an answer unread.")
]
IdleTimeout = Annotated[float, typer.Option(min=1, help="Seconds that a connection may be idle.")]

MaxWaiting = Annotated[
    int, typer.Option("--max-waiting", min=0, help="Texts that may wait beside those that run, before 429 is answered.")
]
MaxWork = Annotated[
    int | None,
    typer.Option(
        "--max-work", min=1, help="Tokens of work that may be under way when a request is to wait. Default: any number."
    ),
]
RequestTimeout = Annotated[
    float, typer.Option("--request-timeout", min=0.001, help="Most seconds that a request may take.")
]
DrainTimeout = Annotated[
    float, typer.Option("--drain-timeout", min=0, help="Seconds for requests to be finished after SIGTERM or Ctrl-C.")
]
DrainDelay = Annotated[
    float, typer.Option("--drain-delay", min=0, help="Least seconds to go on answering 503 after SIGTERM or Ctrl-C.")
]
EngineTimeout = Annotated[
    float, typer.Option("--engine-timeout", min=0.001, help="Seconds after which a silent engine is replaced.")
]
MetricsPort = Annotated[
    int | None,
    typer.Option("--metrics-port", min=0, max=65535, help="Serve /metrics at a port of its own, without a key."),
]
MetricsHost = Annotated[
    str | None, typer.Option("--metrics-host", help="Address for --metrics-port. Default: this machine alone.")
]
LogStats = Annotated[
    float | None,
    typer.Option("--log-stats", min=0.1, help="Print a line about each engine this often.", metavar="SECONDS"),
]


def check_installed() -> None:
    """Raises InvalidRequest where what the server is made of is not there."""
    try:
        import lepton_ai.serve.server  # noqa: F401  # whether it can be
    except ImportError as error:
        raise InvalidRequest(f"serve: expected what pip install 'lepton-ai[serve]' brings: {error}") from None


def access_options(
    *, keys: Path | None, is_open: bool, cert: Path | None, key: Path | None, origins: list[str] | None, log: str | None
) -> AccessOptions:
    """Who may use the server. Raises InvalidRequest, also for files that are not as they should be."""
    from lepton_ai.serve.access.options import AccessOptions
    from lepton_ai.serve.access.tls import Tls

    if (cert is None) is not (key is None):
        raise InvalidRequest("--tls-cert: expected --tls-key beside it, and the other way round", param="tls_cert")
    tls = None if cert is None or key is None else Tls(cert, key)
    return AccessOptions(keys=_keys(keys, is_open=is_open), cors_origins=tuple(origins or ()), tls=tls, log=log)


def bounds_of(body_bytes: int | None, connections: int, *, client_s: float, idle_s: float) -> Bounds:
    """The outer bounds of connections."""
    from lepton_ai.serve.http.bounds import Bounds

    usual = Bounds()
    return Bounds(
        max_body_bytes=usual.max_body_bytes if body_bytes is None else body_bytes,
        max_connections=connections,
        head_s=min(usual.head_s, client_s),
        body_s=client_s,
        read_s=client_s,
        idle_s=idle_s,
    )


def life_of(
    request_timeout_s: float, drain_timeout_s: float, *, drain_delay_s: float, engine_timeout_s: float
) -> LifeOptions:
    """How long things may take."""
    return LifeOptions(
        request_timeout_s=request_timeout_s,
        drain_timeout_s=drain_timeout_s,
        drain_delay_s=drain_delay_s,
        engine_timeout_s=engine_timeout_s,
    )


def limits_of(bounds: Bounds, life: LifeOptions, *, max_waiting: int, max_work: int | None) -> ServerLimits:
    """How much the server takes on."""
    from lepton_ai.serve.server_limits import ServerLimits

    return ServerLimits(
        bounds=bounds, admission=AdmissionOptions(max_waiting=max_waiting, max_work=max_work), life=life
    )


def monitoring_of(host: str | None, port: int | None, log_every_s: float | None) -> MonitoringOptions:
    """Where its metrics are."""
    from lepton_ai.serve.metrics.monitoring import MonitoringOptions

    if host is not None and port is None:
        raise InvalidRequest("--metrics-host: expected --metrics-port beside it", param="metrics_host")
    return MonitoringOptions(host=host or "127.0.0.1", port=port, log_every_s=log_every_s, tell=print_note)


def model_options(
    policy: Policy,
    max_model_len: int | None,
    max_num_seqs: int | None,
    *,
    kv_dtype: str | None,
    kv_memory: int | None,
    allowed: list[str] | None,
) -> Mapping[str, OptionValue]:
    """How each model is loaded."""
    return {
        "policy": policy,
        "kv_dtype": kv_dtype,
        "kv_memory_bytes": kv_memory,
        "max_model_len": max_model_len,
        "max_num_seqs": max_num_seqs,
        "allow_config_keys": tuple(allowed or ()),
    }


def options_of(
    models: list[str],
    host: str,
    port: int,
    *,
    threads: int | None,
    access: AccessOptions,
    limits: ServerLimits,
    loading: Mapping[str, OptionValue],
) -> ServeOptions:
    """All of it."""
    from lepton_ai.serve.server import ServeOptions

    return ServeOptions(
        models=models, host=host, port=port, num_threads=threads, access=access, limits=limits, model_options=loading
    )


def _keys(path: Path | None, *, is_open: bool) -> KeyRing | None:
    from lepton_ai.serve.access.key_file import WatchedKeys
    from lepton_ai.serve.access.keys import KeyRing

    secret = Environment.read().api_key
    if is_open:
        if path is not None or secret is not None:
            raise InvalidRequest("--no-auth: expected no keys beside it", param="no_auth")
        return None
    if path is not None and secret is not None:
        raise InvalidRequest("--api-keys: expected no LEPTON_API_KEY beside it", param="api_keys")
    if path is not None:
        return WatchedKeys(path)
    if secret is None:
        raise InvalidRequest("api_keys: expected LEPTON_API_KEY, --api-keys or --no-auth", param="api_keys")
    return KeyRing.of_secret(secret)
