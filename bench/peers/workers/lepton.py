"""A worker that runs Lepton through its public interface: scheduling, sampling and detokenising are in its times."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

import lepton_ai
from bench.channel import standard_channel
from bench.peers.own_build import own_digest
from bench.serving import EngineInfo, serve, worker_parser
from lepton_ai import LLM, SamplingParams

_MAX_SEQS = 32
# Room for the largest workload, as other engines have it: soon all of it has been written once, so that the times are
# those of a server that has run for a while, without the system's work of handing out fresh pages.
_F16_KV_BYTES_PER_TOKEN = 48 << 10


class LeptonEngine:
    """A ``serving.BenchEngine``."""

    def __init__(self, path: Path, *, num_threads: int, policy: str, kv_dtype: str | None, max_model_len: int) -> None:
        self._llm = LLM(
            path,
            num_threads=num_threads,
            policy=policy,
            max_num_seqs=_MAX_SEQS,
            max_model_len=max_model_len,
            kv_memory_bytes=max_model_len * _kv_bytes_per_token(policy),
            kv_dtype=kv_dtype,
        )

    @property
    def info(self) -> EngineInfo:
        """What runs."""
        info = self._llm.model_info
        return EngineInfo(
            name="lepton",
            version=f"Lepton {lepton_ai.__version__}",
            isa=info.isa,
            num_threads=info.num_threads,
            fingerprint=f"lepton-{lepton_ai.__version__}-{own_digest()}-{info.isa}-{info.policy}",
        )

    def prefill(self, prompt: Sequence[int]) -> float:
        """Seconds to the first token."""
        params = SamplingParams(temperature=0.0, max_tokens=1, ignore_eos=True)
        begin = time.perf_counter()
        (completion,) = self._llm.generate([list(prompt)], params)
        seconds = time.perf_counter() - begin
        if completion.usage.cached_tokens:
            raise RuntimeError(f"prefill: {completion.usage.cached_tokens} tokens were found in the prefix cache")
        return seconds

    def decode(self, prompts: Sequence[Sequence[int]], num_tokens: int) -> float:
        """Seconds from the first token of all prompts to the last."""
        params = SamplingParams(temperature=0.0, max_tokens=num_tokens + 1, ignore_eos=True)
        streams = [self._llm.stream(list(prompt), params) for prompt in prompts]
        for stream in streams:
            next(stream)
        num_first = sum(stream.num_output_tokens for stream in streams)
        if num_first != len(streams):
            raise RuntimeError(f"decode: the prompts do not fit one step; {num_first} tokens came before the last one")
        begin = time.perf_counter()
        for stream in streams:
            for _ in stream:
                pass
        return time.perf_counter() - begin

    def logits(self, token_ids: Sequence[int]) -> Iterator[npt.NDArray[np.float32]]:
        """Logits after each token, in pieces."""
        return self._llm.logits(list(token_ids))


def _kv_bytes_per_token(policy: str) -> int:
    """Of the largest model; ``exact`` keeps f32."""
    return _F16_KV_BYTES_PER_TOKEN * (2 if policy == "exact" else 1)


def main() -> None:
    """Serve on the standard streams."""
    parser = worker_parser()
    parser.add_argument("--policy", default="auto")
    parser.add_argument("--kv-dtype")
    parser.add_argument("--max-model-len", type=int, default=1024)
    arguments = parser.parse_args()
    channel = standard_channel()
    engine = LeptonEngine(
        arguments.model,
        num_threads=arguments.threads,
        policy=arguments.policy,
        kv_dtype=arguments.kv_dtype,
        max_model_len=arguments.max_model_len,
    )
    serve(engine, channel)


if __name__ == "__main__":
    main()
