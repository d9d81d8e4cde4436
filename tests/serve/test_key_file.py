from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from lepton_ai.errors import InvalidRequest, StorageError
from lepton_ai.serve.access.key_file import WatchedKeys, read_keys, write_keys
from lepton_ai.serve.access.keys import Key, Unauthorized, digest, new_secret
from lepton_ai.serve.access.limits import Limits
from lepton_ai.serve.access.scopes import DEFAULT_SCOPES, Scope

SHA = digest("x")


def file_of(folder: Path, *entries: object) -> Path:
    path = folder / "keys.json"
    path.write_text(json.dumps({"keys": list(entries)}))
    return path


def test_all_fields(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        {"name": "plain", "sha256": SHA},
        {
            "name": "full",
            "sha256": digest("y"),
            "scopes": ["metrics", "admin"],
            "limits": {"requests_per_minute": 5, "tokens_per_minute": 1000},
            "expires": "2030-12-31",
        },
    )
    assert read_keys(path) == [
        Key("plain", SHA, DEFAULT_SCOPES),
        Key("full", digest("y"), frozenset((Scope.METRICS, Scope.ADMIN)), Limits(5, 1000), date(2030, 12, 31)),
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"sha": "x"}, "keys[0]: expected name and sha256, perhaps scopes, limits and expires, and nothing else"),
        ({"sha256": SHA.upper()}, "keys[0].sha256: expected 64 digits"),
        ({"sha256": SHA[:-1]}, "keys[0].sha256: expected 64 digits"),
        ({"sha256": None}, "keys[0]: expected a name and a sha256"),
        ({"name": ""}, "keys[0].name: expected at most 64"),
        ({"name": "a\nb"}, "keys[0].name: expected at most 64"),
        ({"name": "a" * 65}, "keys[0].name: expected at most 64"),
        ({"scopes": []}, "keys[0].scopes: expected a list of inference, models, metrics, admin"),
        ({"scopes": ["root"]}, "keys[0].scopes: expected a list"),
        ({"scopes": "admin"}, "keys[0].scopes: expected a list"),
        ({"limits": {"requests": 3}}, "keys[0].limits: expected requests_per_minute and tokens_per_minute"),
        ({"limits": {"requests_per_minute": 0}}, "keys[0].limits.requests_per_minute: expected an integer"),
        ({"limits": {"tokens_per_minute": True}}, "keys[0].limits.tokens_per_minute: expected an integer"),
        ({"expires": "31.12.2030"}, "keys[0].expires: expected the last day"),
        ({"expires": "2030-13-01"}, "keys[0].expires: expected the last day"),
        ({"expires": "20301231"}, "keys[0].expires: expected the last day"),
        ({"expires": 5}, "keys[0].expires: expected the last day"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    path = file_of(tmp_path, {"name": "me", "sha256": SHA} | more)
    with pytest.raises(InvalidRequest) as raised:
        read_keys(path)
    assert f"{path}: {message}" in raised.value.message and SHA[:60] not in raised.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected JSON: Expecting value, line 1"),
        ("[]", "expected one field, keys, a list"),
        ('{"keys": [], "other": 1}', "expected one field, keys, a list"),
        ('{"keys": []}', "expected at least one key"),
        ('{"keys": [1]}', "keys[0]: expected name and sha256"),
        ("[" * 100_000, "expected JSON in UTF-8"),
        (" " * (4 << 20) + "{}", "expected at most 4194304 bytes"),
    ],
)
def test_what_is_no_file_of_keys(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "keys.json"
    path.write_text(text)
    with pytest.raises(InvalidRequest) as raised:
        read_keys(path)
    assert message in raised.value.message and raised.value.param == "api_keys"


def test_names_and_keys_are_there_once(tmp_path: Path) -> None:
    for other in ({"name": "me", "sha256": digest("y")}, {"name": "you", "sha256": SHA}):
        with pytest.raises(InvalidRequest, match="once"):
            read_keys(file_of(tmp_path, {"name": "me", "sha256": SHA}, other))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="No such file"):
        WatchedKeys(tmp_path / "keys.json")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = [
        Key("a", digest("a")),
        Key("b", digest("b"), frozenset(Scope), Limits(tokens_per_minute=7), date(2031, 1, 2)),
    ]
    write_keys(path, keys)
    assert read_keys(path) == keys and path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    write_keys(link, keys[:1])
    assert link.is_symlink() and read_keys(path) == keys[:1] and path.stat().st_mode & 0o777 == 0o640
    assert sorted(each.name for each in tmp_path.iterdir()) == ["keys.json", "link.json"]


def test_a_write_that_fails_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    write_keys(path, [Key("a", SHA)])

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match="No space left"):
        write_keys(path, [Key("b", SHA)])
    assert [key.name for key in read_keys(path)] == ["a"]
    assert [each.name for each in tmp_path.iterdir()] == ["keys.json"]


async def until(is_so: Callable[[], bool]) -> None:
    for _ in range(2000):
        if is_so():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come about")


def test_a_changed_file_is_noticed_and_a_broken_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = new_secret(), new_secret()
    path = tmp_path / "keys.json"
    write_keys(path, [Key("old", digest(old))])
    ring = WatchedKeys(path)

    def is_known(secret: str) -> bool:
        try:
            return bool(ring.find(f"Bearer {secret}").name)
        except Unauthorized:
            return False

    async def change() -> None:
        watching = asyncio.ensure_future(ring.watch(every_s=0.001))
        try:
            write_keys(path, [Key("new", digest(new))])
            await until(lambda: is_known(new))
            assert not is_known(old)
            path.write_text(f'{{"keys": [{{"name": "x", "secret": "{old}"}}]}}')
            await until(lambda: "keys are not reloaded" in caplog.text)
            path.unlink()
            await until(lambda: "No such file" in caplog.text)
            assert is_known(new)
            write_keys(path, [Key("old", digest(old))])
            await until(lambda: is_known(old))
        finally:
            watching.cancel()

    with caplog.at_level(logging.INFO):
        asyncio.run(change())
    stay = f"keys are not reloaded, the 1 from before stay: {path}"
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said == [
        ("INFO", f"keys are reloaded: {path} now has 1"),
        ("ERROR", f"{stay}: keys[0]: expected name and sha256, perhaps scopes, limits and expires, and nothing else"),
        ("ERROR", f"{stay}: expected a file of keys: No such file or directory"),
        ("INFO", f"keys are reloaded: {path} now has 1"),
    ]
    assert old not in caplog.text and digest(old) not in caplog.text
