"""``lepton keys``: what it writes is what the server reads."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from tests.cli.conftest import Lepton

from lepton_ai.serve.access.key_file import WatchedKeys, read_keys
from lepton_ai.serve.access.keys import digest
from lepton_ai.serve.access.limits import Limits
from lepton_ai.serve.access.scopes import DEFAULT_SCOPES, Scope


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "keys.json"


def test_a_new_key_is_printed_once_and_opens_the_server(lepton: Lepton, file: Path) -> None:
    made = lepton("keys", "new", "web")
    secret = made.out.strip()
    assert made.status == 0 and made.out == f"{secret}\n" and secret.startswith("sk-lepton-") and "web" in made.err
    assert WatchedKeys(file).find(f"Bearer {secret}").scopes == DEFAULT_SCOPES
    assert secret not in file.read_text() and secret not in made.err and digest(secret) in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def test_all_options(lepton: Lepton, file: Path) -> None:
    limits = ("--requests-per-minute", "60", "--tokens-per-minute", "20000", "--expires", "2030-12-31")
    made = lepton("keys", "new", "ops", "--scope", "metrics", "--scope", "admin", *limits, "--json").json()
    (key,) = read_keys(file)
    assert digest(str(made["secret"])) == key.sha256 and made["file"] == "keys.json"
    assert (key.name, key.scopes) == ("ops", frozenset((Scope.METRICS, Scope.ADMIN)))
    assert (key.limits, key.expires) == (Limits(60, 20_000), date(2030, 12, 31))
    assert made["key"] == {
        "name": "ops",
        "scopes": ["metrics", "admin"],
        "limits": {"requests_per_minute": 60, "tokens_per_minute": 20000},
        "expires": "2030-12-31",
    }


def test_list_and_remove(lepton: Lepton, file: Path) -> None:
    lepton("keys", "new", "a")
    lepton("keys", "new", "b", "--requests-per-minute", "5", "--expires", "2030-01-02")
    listed = lepton("keys", "list").out
    assert listed == "a  inference,models\nb  inference,models  5 requests per minute  until 2030-01-02\n"
    assert lepton("keys", "remove", "a").status == 0
    assert lepton("keys", "list", "--json").json() == {
        "file": "keys.json",
        "keys": [
            {
                "name": "b",
                "scopes": ["inference", "models"],
                "limits": {"requests_per_minute": 5},
                "expires": "2030-01-02",
            }
        ],
    }
    assert lepton("keys", "remove", "b").status == 0 and json.loads(file.read_text()) == {"keys": []}
    assert lepton("keys", "new", "c").status == 0 and [key.name for key in read_keys(file)] == ["c"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new"], "expected a NAME for new and remove"),
        (["list", "web"], "and none for list"),
        (["new", "old"], "name: expected one that keys.json does not have, got 'old'"),
        (["remove", "none"], "name: expected one that keys.json has, got 'none'"),
        (["remove", "old", "--scope", "admin"], "expected no options of a new key beside remove"),
        (["list", "--expires", ""], "expected no options of a new key beside list"),
        (["new", "x", "--scope", "root"], "key.scopes: expected a list of inference, models, metrics, admin"),
        (["new", "x", "--expires", "soon"], "key.expires: expected the last day"),
        (["new", "a\tb"], "key.name: expected at most 64 characters that can be printed"),
        (["list", "--file", "none.json"], "none.json: expected a file of keys: No such file"),
        (["drop", "old"], "'drop' is not one of 'new', 'list', 'remove'"),
    ],
)
def test_what_is_refused_changes_nothing(lepton: Lepton, file: Path, arguments: list[str], message: str) -> None:
    lepton("keys", "new", "old")
    before = file.read_bytes()
    refused = lepton("keys", *arguments)
    assert refused.status == 2 and message in refused.err and refused.out == ""
    assert file.read_bytes() == before


def test_a_broken_file_is_left_alone(lepton: Lepton, file: Path) -> None:
    file.write_text('{"keys": [{"name": "me"}]}')
    refused = lepton("keys", "new", "web")
    assert refused.status == 2 and "keys[0]" in refused.err and "sk-lepton" not in refused.out
    assert file.read_text() == '{"keys": [{"name": "me"}]}'
