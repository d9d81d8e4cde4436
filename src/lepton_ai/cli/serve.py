"""``lepton serve``."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from logging.config import dictConfig
from typing import TYPE_CHECKING, Annotated

import typer

from lepton_ai.cli.loading import OnDemandProgress
from lepton_ai.cli.options import AllowConfigKeys, Json, KVDType, KVMemory, PolicyOption, Threads
from lepton_ai.cli.output import print_json, print_note
from lepton_ai.cli.serve_options import (
    AccessLogFile,
    ApiKeys,
    ClientTimeout,
    CorsOrigin,
    DrainDelay,
    DrainTimeout,
    EngineTimeout,
    IdleTimeout,
    LogStats,
    MaxBody,
    MaxConnections,
    MaxWaiting,
    MaxWork,
    MetricsHost,
    MetricsPort,
    NoAuth,
    RequestTimeout,
    TlsCert,
    TlsKey,
    access_options,
    bounds_of,
    check_installed,
    life_of,
    limits_of,
    model_options,
    monitoring_of,
    options_of,
)
from lepton_ai.config import Policy
from lepton_ai.serve.admission.options import AdmissionOptions
from lepton_ai.serve.life.options import LifeOptions

if TYPE_CHECKING:
    from lepton_ai.serve.server import ServeOptions
    from lepton_ai.serve.service import Service

_ADMISSION, _LIFE = AdmissionOptions(), LifeOptions()

Models = Annotated[list[str], typer.Argument(help="Short names, files or folders.", metavar="MODEL...")]
Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")]
MaxModelLen = Annotated[
    int | None, typer.Option("--max-model-len", min=2, help="Longest request to a model that generates, in tokens.")
]
MaxNumSeqs = Annotated[int | None, typer.Option("--max-num-seqs", min=1, help="Requests that run together.")]


def serve(
    models: Models,
    *,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    api_keys: ApiKeys = None,
    no_auth: NoAuth = False,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    cors_origin: CorsOrigin = None,
    access_log: AccessLogFile = None,
    max_body: MaxBody = None,
    max_connections: MaxConnections = 512,
    client_timeout: ClientTimeout = 60,
    idle_timeout: IdleTimeout = 75,
    max_waiting: MaxWaiting = _ADMISSION.max_waiting,
    max_work: MaxWork = _ADMISSION.max_work,
    request_timeout: RequestTimeout = _LIFE.request_timeout_s,
    drain_timeout: DrainTimeout = _LIFE.drain_timeout_s,
    drain_delay: DrainDelay = _LIFE.drain_delay_s,
    engine_timeout: EngineTimeout = _LIFE.engine_timeout_s,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = None,
    log_stats: LogStats = None,
    max_model_len: MaxModelLen = None,
    max_num_seqs: MaxNumSeqs = None,
    threads: Threads = None,
    policy: PolicyOption = Policy.AUTO,
    kv_dtype: KVDType = None,
    kv_memory: KVMemory = None,
    allow_config_key: AllowConfigKeys = None,
    json: Json = False,
) -> None:
    """Serve models over HTTP, by the interface that clients of OpenAI's speak.

    Who asks needs a key: that in LEPTON_API_KEY, or one of a file that `lepton keys` writes. Without keys, --no-auth
    serves this machine alone. Ctrl-C lets what is under way end; SIGHUP has keys and certificates read again.

    \b
    Examples:
      lepton serve smollm2 --no-auth
      lepton serve smollm2 minilm --host 0.0.0.0 --api-keys keys.json --tls-cert cert.pem --tls-key key.pem
    """
    check_installed()
    life = life_of(request_timeout, drain_timeout, drain_delay_s=drain_delay, engine_timeout_s=engine_timeout)
    bounds = bounds_of(max_body, max_connections, client_s=client_timeout, idle_s=idle_timeout)
    limits = limits_of(bounds, life, max_waiting=max_waiting, max_work=max_work)
    access = access_options(
        keys=api_keys, is_open=no_auth, cert=tls_cert, key=tls_key, origins=cors_origin, log=access_log
    )
    monitoring = monitoring_of(metrics_host, metrics_port, log_stats)
    loading = model_options(
        policy, max_model_len, max_num_seqs, kv_dtype=kv_dtype, kv_memory=kv_memory, allowed=allow_config_key
    )
    options = options_of(models, host, port, threads=threads, access=access, limits=limits, loading=loading)
    _run(replace(options, monitoring=monitoring, progress=OnDemandProgress()), as_json=json)


def _run(options: ServeOptions, *, as_json: bool) -> None:
    from lepton_ai.serve.logs import log_config
    from lepton_ai.serve.server import run

    dictConfig(log_config())
    run(options, partial(_tell, options, as_json=as_json))


def _tell(options: ServeOptions, service: Service, port: int, *, as_json: bool) -> None:
    scheme = "http" if options.access.tls is None else "https"
    host = f"[{options.host}]" if ":" in options.host else options.host
    names, url = list(service.models), f"{scheme}://{host}:{port}"
    if "*" in options.access.cors_origins:
        print_note("pages of every site may use this server from a browser that has a key: --cors-origin *")
    if as_json:
        print_json({"url": url, "models": names})
        sys.stdout.flush()
    else:
        print_note(f"serving {', '.join(names)} at {url}")
