"""``lepton serve``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lepton_ai.cli.loading import OnDemandProgress
from lepton_ai.cli.options import AllowConfigKeys, Json, KVDType, KVMemory, PolicyOption, Threads
from lepton_ai.cli.output import print_json, print_note
from lepton_ai.cli.serve_options import (
    DrainDelay,
    DrainTimeout,
    EngineTimeout,
    MaxWaiting,
    MaxWork,
    RequestTimeout,
    WriteTimeout,
)
from lepton_ai.config import Environment, Policy
from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.admission.options import AdmissionOptions
from lepton_ai.serve.life.options import LifeOptions

if TYPE_CHECKING:
    from lepton_ai.serve.access import KeyRing
    from lepton_ai.serve.metrics.monitoring import MonitoringOptions
    from lepton_ai.serve.server import ServeOptions
    from lepton_ai.serve.service import Service

_ADMISSION, _LIFE = AdmissionOptions(), LifeOptions()

Models = Annotated[list[str], typer.Argument(help="Short names, files or folders.", metavar="MODEL...")]
Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on.")]
ApiKeys = Annotated[
    Path | None, typer.Option("--api-keys", help="File with the names and digests of keys.", metavar="FILE")
]
NoAuth = Annotated[bool, typer.Option("--no-auth", help="Serve everyone on this machine without a key.")]
MaxModelLen = Annotated[int | None, typer.Option("--max-model-len", min=2, help="Longest request, in tokens.")]
MaxNumSeqs = Annotated[int | None, typer.Option("--max-num-seqs", min=1, help="Requests that run together.")]
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


def serve(
    models: Models,
    *,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    api_keys: ApiKeys = None,
    no_auth: NoAuth = False,
    max_model_len: MaxModelLen = None,
    max_num_seqs: MaxNumSeqs = None,
    max_waiting: MaxWaiting = _ADMISSION.max_waiting,
    max_work: MaxWork = _ADMISSION.max_work,
    request_timeout: RequestTimeout = _LIFE.request_timeout_s,
    write_timeout: WriteTimeout = _LIFE.write_timeout_s,
    drain_timeout: DrainTimeout = _LIFE.drain_timeout_s,
    drain_delay: DrainDelay = _LIFE.drain_delay_s,
    engine_timeout: EngineTimeout = _LIFE.engine_timeout_s,
    threads: Threads = None,
    policy: PolicyOption = Policy.AUTO,
    kv_dtype: KVDType = None,
    kv_memory: KVMemory = None,
    allow_config_key: AllowConfigKeys = None,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = None,
    log_stats: LogStats = None,
    json: Json = False,
) -> None:
    """Serve models over HTTP, by the interface that clients of OpenAI's speak.

    Who asks needs a key: that in LEPTON_API_KEY, or one of a file {"keys": [{"name": "me", "sha256": "..."}]} that has
    the SHA-256 of each. Without keys, --no-auth serves this machine alone. Ctrl-C lets what is under way end; a second
    one does not.

    \b
    Examples:
      lepton serve smollm2 --no-auth
      LEPTON_API_KEY=... lepton serve smollm2 minilm --host 0.0.0.0
    """
    options = _options_class()(
        models=models,
        host=host,
        port=port,
        keys=_keys(api_keys, is_open=no_auth),
        num_threads=threads,
        admission=AdmissionOptions(max_waiting=max_waiting, max_work=max_work),
        life=LifeOptions(
            request_timeout_s=request_timeout,
            write_timeout_s=write_timeout,
            drain_timeout_s=drain_timeout,
            drain_delay_s=drain_delay,
            engine_timeout_s=engine_timeout,
        ),
        model_options={
            "policy": policy,
            "kv_dtype": kv_dtype,
            "kv_memory_bytes": kv_memory,
            "max_model_len": max_model_len,
            "max_num_seqs": max_num_seqs,
            "allow_config_keys": tuple(allow_config_key or ()),
        },
        progress=OnDemandProgress(),
        monitoring=_monitoring(metrics_host, metrics_port, log_stats),
    )
    _serve(options, is_json=json)


def _options_class() -> type[ServeOptions]:
    try:
        from lepton_ai.serve.server import ServeOptions
    except ImportError as error:
        raise InvalidRequest(f"serve: expected what pip install 'lepton-ai[serve]' brings: {error}") from None
    return ServeOptions


def _serve(options: ServeOptions, *, is_json: bool) -> None:
    from lepton_ai.serve.server import run

    def tell(service: Service, port: int) -> None:
        names, url = list(service.models), f"http://{options.host}:{port}"
        if is_json:
            print_json({"url": url, "models": names})
            sys.stdout.flush()
        else:
            print_note(f"serving {', '.join(names)} at {url}")

    run(options, tell)


def _monitoring(host: str | None, port: int | None, log_every_s: float | None) -> MonitoringOptions:
    from lepton_ai.serve.metrics.monitoring import MonitoringOptions

    if host is not None and port is None:
        raise InvalidRequest("--metrics-host: expected --metrics-port beside it", param="metrics_host")
    return MonitoringOptions(host=host or "127.0.0.1", port=port, log_every_s=log_every_s, tell=print_note)


def _keys(path: Path | None, *, is_open: bool) -> KeyRing | None:
    from lepton_ai.serve.access import KeyRing

    secret = Environment.read().api_key
    if is_open:
        if path is not None or secret is not None:
            raise InvalidRequest("--no-auth: expected no keys beside it", param="no_auth")
        return None
    if path is not None:
        return KeyRing.read(path)
    if secret is None:
        raise InvalidRequest("api_keys: expected LEPTON_API_KEY, --api-keys or --no-auth", param="api_keys")
    return KeyRing.of_secret(secret)
