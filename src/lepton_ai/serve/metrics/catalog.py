"""All metrics of the server's own. Names that vLLM has too mean what they mean there, so that its dashboards work.

``docs/monitoring.md`` has a line for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from lepton_ai.engine.histogram import Distribution, Histogram
from lepton_ai.engine.request import FinishReason
from lepton_ai.engine.stats import EngineStats
from lepton_ai.serve.metrics.families import MODEL, MetricType
from lepton_ai.serve.metrics.model_meter import ModelMeter

ENGINE_VALUES: tuple[tuple[MetricType, Callable[[EngineStats], float]], ...] = (
    (
        MetricType("vllm:num_requests_running", "gauge", "Completions that take part in steps."),
        lambda stats: stats.num_running,
    ),
    (
        MetricType("vllm:num_requests_waiting", "gauge", "Completions that wait to be let in."),
        lambda stats: stats.num_waiting,
    ),
    (
        MetricType("lepton:num_requests_paused", "gauge", "Completions that wait for their readers to catch up."),
        lambda stats: stats.num_paused,
    ),
    (
        MetricType("vllm:kv_cache_usage_perc", "gauge", "Share of the KV cache that requests hold, 0 to 1."),
        lambda stats: stats.kv_usage,
    ),
    (
        MetricType("vllm:prefix_cache_queries", "counter", "Prompt tokens that were looked up in the prefix cache."),
        lambda stats: stats.prompt_tokens,
    ),
    (
        MetricType("vllm:prefix_cache_hits", "counter", "Prompt tokens that were found in the prefix cache."),
        lambda stats: stats.cached_tokens,
    ),
    (
        MetricType("vllm:prompt_tokens", "counter", "Prompt tokens of the completions that were let in."),
        lambda stats: stats.prompt_tokens,
    ),
    (
        MetricType("vllm:generation_tokens", "counter", "Tokens that were chosen."),
        lambda stats: stats.output_tokens,
    ),
    (
        MetricType("lepton:computed_tokens", "counter", "Tokens that went through the model."),
        lambda stats: stats.computed_tokens,
    ),
    (
        MetricType("lepton:engine_steps", "counter", "Steps of the engine."),
        lambda stats: stats.num_steps,
    ),
    (
        MetricType("vllm:num_preemptions", "counter", "Times that a completion gave up its KV cache for another."),
        lambda stats: stats.num_preemptions,
    ),
)
"""What an engine says of itself."""

ENGINE_HISTOGRAMS: tuple[tuple[MetricType, Callable[[EngineStats], Distribution]], ...] = (
    (
        MetricType("vllm:iteration_tokens_total", "histogram", "Tokens that a step computed."),
        lambda stats: stats.step_tokens,
    ),
    (
        MetricType("vllm:request_queue_time_seconds", "histogram", "Time until a completion was let in first."),
        lambda stats: stats.queue_s,
    ),
    (
        MetricType("vllm:request_prefill_time_seconds", "histogram", "Time from there until its prompt was computed."),
        lambda stats: stats.prefill_s,
    ),
    (
        MetricType("vllm:request_decode_time_seconds", "histogram", "Time from there to its end."),
        lambda stats: stats.decode_s,
    ),
    (
        MetricType("vllm:request_inference_time_seconds", "histogram", "Time from being let in to the end."),
        lambda stats: stats.inference_s,
    ),
)

MODEL_HISTOGRAMS: tuple[tuple[MetricType, Callable[[ModelMeter], Histogram]], ...] = (
    (
        MetricType("vllm:time_to_first_token_seconds", "histogram", "Time from a request to its first token."),
        lambda meter: meter.first_token_s,
    ),
    (
        MetricType("vllm:inter_token_latency_seconds", "histogram", "Time between two tokens of a completion."),
        lambda meter: meter.inter_token_s,
    ),
    (
        MetricType("vllm:e2e_request_latency_seconds", "histogram", "Time from a request to the end of a completion."),
        lambda meter: meter.latency_s,
    ),
    (
        MetricType("vllm:request_prompt_tokens", "histogram", "Prompt tokens of a completion."),
        lambda meter: meter.prompt_tokens,
    ),
    (
        MetricType("vllm:request_generation_tokens", "histogram", "Tokens that a completion was given."),
        lambda meter: meter.output_tokens,
    ),
)
"""What the server's process measures, as tokens arrive."""

SUCCESS = MetricType(
    "vllm:request_success", "counter", "Completions by the way they ended.", (*MODEL, "finished_reason")
)
FINISHED_REASONS: Mapping[FinishReason, str] = MappingProxyType(
    {
        FinishReason.STOP: "stop",
        FinishReason.LENGTH: "length",
        FinishReason.CANCELLED: "abort",
        FinishReason.ERROR: "error",
    }
)
"""As vLLM calls them."""

ENGINE_UP = MetricType("lepton:engine_up", "gauge", "1 if the engine answers, 0 if not: what it said last stays.")
KV_BYTES = MetricType("lepton:kv_cache_bytes", "gauge", "Size of the KV cache.")
MODEL_INFO = MetricType(
    "lepton:model_info",
    "gauge",
    "1; how a model runs.",
    (*MODEL, "architecture", "policy", "kv_dtype", "backend", "isa", "digest"),
)
BUILD_INFO = MetricType("lepton:build_info", "gauge", "1; what serves.", ("version", "python_version"))
IN_FLIGHT = MetricType("lepton:http_requests_in_flight", "gauge", "HTTP requests under way.", ())
ANSWERED = MetricType("lepton:http_requests", "counter", "HTTP requests that have ended.", ("route", "status"))
REFUSED = MetricType("lepton:requests_refused", "counter", "HTTP requests answered by an error.", ("code", "status"))

METRICS: tuple[MetricType, ...] = (
    *(metric for metric, _ in ENGINE_VALUES),
    *(metric for metric, _ in ENGINE_HISTOGRAMS),
    *(metric for metric, _ in MODEL_HISTOGRAMS),
    SUCCESS,
    ENGINE_UP,
    KV_BYTES,
    MODEL_INFO,
    BUILD_INFO,
    IN_FLIGHT,
    ANSWERED,
    REFUSED,
)
