"""Which of the machine's instruction sets is used."""

from pathlib import Path

import pytest

from lepton_ai.backends.cpu import _native
from lepton_ai.backends.cpu.device import MEASURED_ISAS, choose_isa
from lepton_ai.errors import HardwareUnsupported


@pytest.mark.parametrize(
    ("available", "chosen"),
    [
        (["amx", "avx512vnni", "avx2", "generic"], "amx"),
        (["avx512vnni", "avx2", "generic"], "avx512vnni"),
        (["avx2", "generic"], "avx2"),
        (["i8mm", "neondot", "generic"], "generic"),
        (["neondot", "generic"], "generic"),
    ],
)
def test_only_what_is_measured_is_chosen_unasked(
    monkeypatch: pytest.MonkeyPatch, available: list[str], chosen: str
) -> None:
    monkeypatch.setattr(_native, "available_isas", lambda: available)
    assert choose_isa(None) == chosen
    assert [choose_isa(isa) for isa in available] == available
    with pytest.raises(HardwareUnsupported, match=f"{', '.join(available)} on this machine, got 'sse9'"):
        choose_isa("sse9")


def test_each_measured_instruction_set_has_kernels_somewhere() -> None:
    sources = Path(__file__).parents[3] / "native" / "kernels"
    built = {
        line.split('"')[1]
        for path in sources.glob("isa_*.cpp")
        for line in path.read_text().splitlines()
        if "LEPTON_NAME" in line
    }
    assert {"generic"} < MEASURED_ISAS < built
