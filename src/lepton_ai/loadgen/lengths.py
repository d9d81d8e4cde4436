"""Numbers of tokens: one, or a range to draw from."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from lepton_ai.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Lengths:
    """From ``least`` to ``most`` tokens, all of them as likely."""

    least: int
    most: int

    @classmethod
    def parse(cls, text: str, name: str) -> Lengths:
        """Of such as ``128`` or ``64:512``. Raises InvalidRequest, which names the option ``name``."""
        match = re.fullmatch(r"(\d{1,7})(?::(\d{1,7}))?", text.strip(), re.ASCII)
        made = cls(int(match[1]), int(match[2] or match[1])) if match else cls(0, 0)
        if not 1 <= made.least <= made.most:
            raise InvalidRequest(
                f"--{name}: expected a number of tokens such as 128, or a range such as 64:512, got {text!r:.40}",
                param=name.replace("-", "_"),
            )
        return made

    def draw(self, rng: np.random.Generator) -> int:
        """One of them."""
        return int(rng.integers(self.least, self.most, endpoint=True))

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}:{self.most}"
