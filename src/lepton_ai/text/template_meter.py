"""What a chat template may spend: work, measured in characters and nodes made, and processor time."""

from __future__ import annotations

import time
from dataclasses import dataclass

from jinja2.runtime import Undefined

from lepton_ai.errors import TemplateError

NODE_UNITS = 64
"""Units for one element of a container: about its bytes, where a character costs one unit."""


@dataclass(frozen=True, slots=True)
class TemplateLimits:
    """The budgets of one rendering.

    ``max_work`` is in units: a character made or a step of a loop is one, an element of a container
    ``NODE_UNITS``. ``max_time_s``
    is processor time of the rendering thread. ``max_range`` is the longest ``range``.
    """

    max_work: int = 1 << 25
    max_time_s: float = 2.0
    max_range: int = 100_000


class Meter:
    """Counts what one rendering spends. Every method raises TemplateError when a budget is gone."""

    __slots__ = ("_deadline", "_left", "limits")

    def __init__(self, limits: TemplateLimits) -> None:
        self.limits = limits
        self._left = limits.max_work
        self._deadline = time.thread_time() + limits.max_time_s

    def charge(self, units: int) -> None:
        """Spend ``units`` of work."""
        self._left -= units
        if self._left < 0:
            raise TemplateError(f"chat template: more work than the limit of {self.limits.max_work} units")
        if time.thread_time() > self._deadline:
            raise TemplateError(f"chat template: more processor time than the limit of {self.limits.max_time_s} s")

    def charge_value(self, value: object) -> None:
        """Spend the weight of ``value``."""
        self.charge(self.weigh(value))

    def weigh(self, value: object) -> int:
        """The work of writing ``value`` out in full, shared parts as often as they are reached; at least 1.

        Stops with TemplateError as soon as that is more than is left, so a structure that doubles at each level
        cannot make this run long.
        """
        total = 0
        pending = [value]
        while pending:
            item = pending.pop()
            total += 1
            if isinstance(item, str):
                total += len(item)
            elif isinstance(item, int):
                total += item.bit_length() >> 2
            elif isinstance(item, list | tuple | dict):
                total += NODE_UNITS * len(item)
                if total <= self._left:
                    pending += item
                    pending += item.values() if isinstance(item, dict) else ()
            if total > self._left:
                self.charge(total)
        return total


def is_printable(value: object) -> bool:
    """Whether ``value`` is data that a template may write out; functions and the like are not."""
    return value is None or isinstance(value, str | int | float | list | tuple | dict | Undefined)
