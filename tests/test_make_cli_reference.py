from __future__ import annotations

import re

import pytest
from scripts.make_cli_reference import PAGE, make_page

from lepton_ai.cli.main import main
from lepton_ai.cli.verbs import VERBS


def section(verb: str) -> str:
    """What the page says of a verb."""
    return PAGE.read_text(encoding="utf-8").partition(f"\n## lepton {verb}\n")[2].partition("\n## ")[0]


def test_the_page_is_what_the_program_says_now() -> None:
    assert PAGE.read_text(encoding="utf-8") == make_page(), "run scripts/make_cli_reference.py"


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_every_option_of_the_help_stands_in_its_section(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    listed = capsys.readouterr().out.partition("\nOptions:\n")[2]
    spellings = re.findall(r"^  (-.*?)(?:  |$)", listed, re.MULTILINE)
    options = set(re.findall(r"--[a-z-]+", " ".join(spellings))) - {"--help"}
    assert "--json" in options
    rows = re.findall(r"^\| (`-.*?) \|", section(verb), re.MULTILINE)
    assert options == set(re.findall(r"--[a-z-]+", " ".join(rows)))


def test_defaults_bounds_and_choices_are_shown() -> None:
    assert "| `--threads`, `-t` | integer, at least 1 |  |" in section("run")
    assert "| `--temperature` | number | `0.7` |" in section("run")
    assert "| `--policy` | `exact`, `auto`, `fast` | `auto` |" in section("bench")
    assert "| `--text` | path | required |" in section("eval")
    assert "lepton eval MODEL --text TEXT [OPTIONS]" in section("eval")
    assert "lepton rm smollm2 --yes" in section("rm")
