"""What may be tuned to a machine: numbers that change how fast a step is, and no bit of what it computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from lepton_ai.backends.cpu import _native
from lepton_ai.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """The numbers of native/tuning.h, which says what each is. ``min_tile_rows`` is 0 without tiles."""

    prefetch_bytes: int
    row_block: int
    min_tile_rows: int
    first_eighths: int
    rest_chunks: int

    @classmethod
    def default(cls, isa: str) -> Tuning:
        """What holds for an instruction set where nothing was measured."""
        native = _native.default_tuning(isa)
        return cls(**{name: getattr(native, name) for name in cls.__slots__})

    @property
    def native(self) -> _native.Tuning:
        """The same for the native core."""
        return _native.Tuning(**asdict(self))

    def check(self, isa: str) -> None:
        """Raise InvalidRequest for a number that ``isa`` cannot run with, or that is out of its bounds."""
        for tunable in TUNABLES:
            tunable.check(getattr(self, tunable.name), isa)


@dataclass(frozen=True, slots=True)
class Tunable:
    """One of the numbers: its bounds, what it is a multiple of, and what is worth a trial beside the default."""

    name: str
    minimum: int
    maximum: int
    multiple_of: int
    candidates: tuple[int, ...]
    meaning: str

    def applies_to(self, isa: str) -> bool:
        """Whether kernels of ``isa`` read it."""
        default: int = getattr(_native.default_tuning(isa), self.name)
        return default != 0

    def check(self, value: object, isa: str) -> int:
        """The value. Raises InvalidRequest if it is not one of this number's on ``isa``."""
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not self.applies_to(isa):
            if is_whole and value == 0:
                return 0
            raise InvalidRequest(f"{self.name}: expected 0 on {isa}, got {value!r:.40}", param=self.name)
        if is_whole and self.minimum <= value <= self.maximum and value % self.multiple_of == 0:  # type: ignore[operator]
            return value  # type: ignore[return-value]
        steps = f" in steps of {self.multiple_of}" if self.multiple_of > 1 else ""
        raise InvalidRequest(
            f"{self.name}: expected {self.minimum} ... {self.maximum}{steps}, got {value!r:.40}", param=self.name
        )


TUNABLES = (
    Tunable("prefetch_bytes", 0, 1 << 16, 64, (1024, 2048, 8192, 16384), "how far ahead weights are asked for"),
    Tunable("row_block", 64, 512, 8, (64, 120, 128, 192, 256), "rows that share one unpacking of weights"),
    Tunable("min_tile_rows", 16, 1024, 16, (16, 32, 1024), "rows from which products go by tiles"),
    Tunable("first_eighths", 0, 8, 1, (5, 6, 8), "of few rows: eighths of a thread's share in its first chunk"),
    Tunable("rest_chunks", 1, 64, 1, (8, 32), "of few rows: how finely the rest is cut"),
)


def tuning_from(values: Mapping[str, object], isa: str) -> Tuning:
    """From values by name, all of them and no others. Raises InvalidRequest."""
    names = {tunable.name for tunable in TUNABLES}
    if values.keys() != names:
        wrong = min(values.keys() ^ names)
        expected = "a value" if wrong in names else f"one of {', '.join(sorted(names))}"
        raise InvalidRequest(
            f"{wrong:.40}: expected {expected}, got {'none' if wrong in names else 'it'}", param="tuning"
        )
    return Tuning(**{tunable.name: tunable.check(values[tunable.name], isa) for tunable in TUNABLES})
