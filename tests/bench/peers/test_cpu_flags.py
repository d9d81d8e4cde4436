from __future__ import annotations

import pytest
from bench.peers.cpu_flags import cpu_flags, has_vnni

ZEN_3 = "processor\t: 0\nmodel name\t: AMD: EPYC\nflags\t\t: fpu avx2 fma\nbugs\t\t: none\n\nflags\t\t: fpu\n"


def test_flags_are_those_of_the_first_processor() -> None:
    assert cpu_flags(ZEN_3) == {"fpu", "avx2", "fma"}
    assert cpu_flags("processor\t: 0\nFeatures\t: asimd\n") == frozenset()


@pytest.mark.parametrize(("flags", "expected"), [({"avx512_vnni"}, True), ({"avx_vnni"}, True), ({"avx512f"}, False)])
def test_vnni_has_two_names(flags: set[str], expected: bool) -> None:
    assert has_vnni(frozenset(flags)) is expected
