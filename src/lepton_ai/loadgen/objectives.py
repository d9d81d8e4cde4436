"""What a service promises: how long a request may wait."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lepton_ai.errors import InvalidRequest
from lepton_ai.loadgen.answer import Outcome

_UNITS: Mapping[str, float] = MappingProxyType({"ms": 1e-3, "s": 1.0})


@dataclass(frozen=True, slots=True)
class Objectives:
    """The most seconds of the first token, of each further one (in the mean of an answer), and of a whole answer."""

    first_token_s: float | None = None
    per_output_token_s: float | None = None
    latency_s: float | None = None

    @classmethod
    def parse(cls, text: str) -> Objectives:
        """Of such as ``ttft=500ms,tpot=50ms,latency=10s``. Raises InvalidRequest."""
        found: dict[str, float] = {}
        for part in text.split(","):
            match = re.fullmatch(r"(ttft|tpot|latency)=(\d{1,9}(?:\.\d{1,9})?)(ms|s)", part.strip(), re.ASCII)
            if match is None or match[1] in found or not float(match[2]):
                raise InvalidRequest(
                    f"--slo: expected such as ttft=500ms,tpot=50ms,latency=10s, each once, got {text!r:.80}",
                    param="slo",
                )
            found[match[1]] = float(match[2]) * _UNITS[match[3]]
        return cls(found.get("ttft"), found.get("tpot"), found.get("latency"))

    def are_met(self, outcome: Outcome) -> bool:
        """Whether a whole answer kept all of them. One without any text did not keep that of the first token; one of a
        single token kept that of further ones."""
        if self.first_token_s is not None:
            first_token_s = outcome.first_token_s
            if first_token_s is None or first_token_s > self.first_token_s:
                return False
        if self.per_output_token_s is not None and (outcome.time_per_output_token_s or 0.0) > self.per_output_token_s:
            return False
        return self.latency_s is None or outcome.latency_s <= self.latency_s
