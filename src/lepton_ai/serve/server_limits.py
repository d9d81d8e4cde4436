"""How much a server takes on, and how long things may take."""

from __future__ import annotations

from dataclasses import dataclass, field

from lepton_ai.serve.admission.options import AdmissionOptions
from lepton_ai.serve.http.bounds import Bounds
from lepton_ai.serve.life.options import LifeOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """``bounds`` are those of a connection, ``admission`` of the work that waits, ``life`` of time."""

    bounds: Bounds = field(default_factory=Bounds)
    admission: AdmissionOptions = field(default_factory=AdmissionOptions)
    life: LifeOptions = field(default_factory=LifeOptions)
