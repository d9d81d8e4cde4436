from __future__ import annotations

import pytest

from lepton_ai.cli.table import print_fields, print_table


def test_columns_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "bytes", "note"), [("a", "1", "x"), ("longer", "1,000", "")], right=("bytes",))
    assert capsys.readouterr().out.splitlines() == [
        "name    bytes  note",
        "a           1  x",
        "longer  1,000",
    ]


def test_wide_characters_take_two_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "b"), [("模型", "x"), ("lm", "y")])
    assert capsys.readouterr().out.splitlines() == ["a     b", "模型  x", "lm    y"]


def test_escape_sequences_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a",), [("\x1b[31mred\n",)])
    print_fields([("name", "\x1b]0;title\x07")])
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\x07" not in out and out.count("\n") == 3


def test_an_empty_table_is_its_headers(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "b"), [])
    assert capsys.readouterr().out == "a  b\n"


def test_fields(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields([("a", "1"), ("long", "2")])
    assert capsys.readouterr().out == "a     1\nlong  2\n"
