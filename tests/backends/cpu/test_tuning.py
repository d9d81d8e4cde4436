"""The numbers that may be tuned: their bounds, here and in the native core."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.cpu.tuning import TUNABLES, Tunable, Tuning, tuning_from
from lepton_ai.errors import InvalidRequest

ISAS = _native.available_isas()


@pytest.mark.parametrize("isa", ISAS)
def test_defaults_are_within_bounds(isa: str) -> None:
    default = Tuning.default(isa)
    default.check(isa)
    assert CpuDevice(num_threads=1, isa=isa).tuning == default
    assert (default.min_tile_rows > 0) == (isa == "amx")
    assert {tunable.name for tunable in TUNABLES} == asdict(default).keys()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("tunable", TUNABLES, ids=lambda tunable: tunable.name)
def test_bounds(isa: str, tunable: Tunable) -> None:
    default = Tuning.default(isa)
    if not tunable.applies_to(isa):
        with pytest.raises(InvalidRequest, match=f"{tunable.name}: expected 0 on {isa}, got 16"):
            CpuDevice(num_threads=1, isa=isa, tuning=replace(default, **{tunable.name: 16}))
        return
    for value in (tunable.minimum, tunable.maximum, *tunable.candidates):
        CpuDevice(num_threads=1, isa=isa, tuning=replace(default, **{tunable.name: value}))
    wrong: tuple[object, ...] = (tunable.minimum - 1, tunable.maximum + tunable.multiple_of, True, "16", 1.5, None)
    for each in wrong:
        with pytest.raises(InvalidRequest, match=f"{tunable.name}: expected {tunable.minimum} ... {tunable.maximum}"):
            tunable.check(each, isa)
    if tunable.multiple_of > 1:
        with pytest.raises(InvalidRequest, match=f"in steps of {tunable.multiple_of}"):
            tunable.check(tunable.minimum + 1, isa)


def test_from_values() -> None:
    values: dict[str, object] = dict(asdict(Tuning.default("generic")))
    assert tuning_from(values, "generic") == Tuning.default("generic")
    with pytest.raises(InvalidRequest, match="row_block: expected a value, got none"):
        tuning_from({name: value for name, value in values.items() if name != "row_block"}, "generic")
    with pytest.raises(InvalidRequest, match="bogus: expected one of"):
        tuning_from(values | {"bogus": 1}, "generic")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("row_block", 63),
        ("row_block", 513),
        ("min_tile_rows", 15),
        ("min_tile_rows", -1),
        ("first_eighths", 9),
        ("first_eighths", -1),
        ("rest_chunks", 0),
        ("prefetch_bytes", -1),
    ],
)
def test_the_native_core_looks_for_itself(name: str, value: int) -> None:
    values = asdict(Tuning.default(ISAS[0])) | {name: value}
    with pytest.raises(ValueError, match=name):
        _native.Tuning(**values)


def test_tiles_where_there_are_none() -> None:
    tuning = _native.Tuning(**asdict(replace(Tuning.default("generic"), min_tile_rows=48)))
    with pytest.raises(ValueError, match="min_tile_rows"):
        _native.CpuDevice(num_threads=1, isa="generic", scratch_bytes=0, tuning=tuning)
