from __future__ import annotations

import pytest

from lepton_ai.cli.options import parse_size
from lepton_ai.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("1048576", 1 << 20),
        ("17B", 17),
        ("512MiB", 512 << 20),
        ("512 mib", 512 << 20),
        ("2GB", 2_000_000_000),
        ("1.5GiB", 3 << 29),
        ("3kB", 3000),
        ("1TiB", 1 << 40),
    ],
)
def test_sizes(text: str, num_bytes: int) -> None:
    assert parse_size(text) == num_bytes


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1e9", "512M", "1.GiB", "5 5", "1 PiB", "nan", "0x10", "\u0663"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(
        InvalidRequest, match="--kv-memory: expected a number of bytes, such as 512MiB or 2GB"
    ) as raised:
        parse_size(text)
    assert raised.value.param == "kv_memory_bytes"
