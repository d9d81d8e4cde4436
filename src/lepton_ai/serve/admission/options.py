"""How much may wait."""

from __future__ import annotations

from dataclasses import dataclass

from lepton_ai.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionOptions:
    """How much may wait for its turn, beside what runs.

    ``max_waiting`` counts texts in the making: a request of ``n`` choices is ``n``. ``max_work``, in tokens of work
    (see ``price``), bounds what runs and waits together, whenever something waits; None leaves it to ``max_waiting``.

    Raises InvalidRequest for a number below 1, or below 0 for ``max_waiting``.
    """

    max_waiting: int = 64
    max_work: int | None = None

    def __post_init__(self) -> None:
        if self.max_waiting < 0:
            raise InvalidRequest(f"max_waiting: expected at least 0, got {self.max_waiting}", param="max_waiting")
        if self.max_work is not None and self.max_work < 1:
            raise InvalidRequest(f"max_work: expected at least 1, got {self.max_work}", param="max_work")
