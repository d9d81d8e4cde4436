from __future__ import annotations

import hmac
from contextlib import suppress
from datetime import date

import pytest

from lepton_ai.errors import InvalidRequest
from lepton_ai.serve.access.keys import Key, KeyRing, Unauthorized, digest, new_secret
from lepton_ai.serve.access.options import AccessOptions
from lepton_ai.serve.access.scopes import OPEN_PATHS, Scope, scope_of
from lepton_ai.serve.app import create_app
from lepton_ai.serve.server_limits import ServerLimits
from lepton_ai.serve.service import Service

ANY_KEY = {"/version", "/openapi.json"}


def bearer(secret: str) -> str:
    return f"Bearer {secret}"


def test_a_known_key_is_found() -> None:
    mine, other = new_secret(), new_secret()
    ring = KeyRing([Key("other", digest(other)), Key("me", digest(mine))])
    assert ring.find(bearer(mine)).name == "me" and ring.find(f"bearer  {other} ").name == "other"
    for wrong in (None, "", "Bearer", "Bearer ", bearer(new_secret()), mine, f"Basic {mine}", bearer(mine + "x")):
        with pytest.raises(Unauthorized) as raised:
            ring.find(wrong)
        assert (raised.value.status, raised.value.code) == (401, "invalid_api_key")
        assert mine not in raised.value.message


def test_a_key_is_good_until_the_end_of_its_last_day() -> None:
    secret, today = new_secret(), date(2030, 12, 31)
    ring = KeyRing([Key("me", digest(secret), expires=date(2030, 12, 31))], today=lambda: today)
    assert ring.find(bearer(secret)).name == "me"
    today = date(2031, 1, 1)
    with pytest.raises(Unauthorized, match="has not expired, this one has on 2030-12-31"):
        ring.find(bearer(secret))


def test_as_many_digests_are_compared_whatever_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that time does not tell how far down a key stands, whether it is there, or has expired."""
    num_compared = 0

    really = hmac.compare_digest

    def compare(a: str, b: str) -> bool:
        nonlocal num_compared
        num_compared += 1
        return really(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    secrets = [new_secret() for _ in range(5)]
    ring = KeyRing(Key(f"k{i}", digest(s), expires=date(2000, 1, 1) if i == 3 else None) for i, s in enumerate(secrets))
    counts = []
    for presented in (*map(bearer, secrets), None, "", "Bearer ", bearer(new_secret()), f"Basic {secrets[0]}"):
        num_compared = 0
        with suppress(Unauthorized):
            ring.find(presented)
        counts.append(num_compared)
    assert counts == [5] * 10


def test_a_secret_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="at least 32 characters"):
        KeyRing.of_secret("x" * 31)
    assert KeyRing.of_secret("x" * 32).find(bearer("x" * 32)).scopes == frozenset(Scope)


def test_secrets_are_long_and_differ() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100 and {len(secret) for secret in made} == {10 + 43}


def test_the_keys_can_be_replaced() -> None:
    old, new = new_secret(), new_secret()
    ring = KeyRing([Key("old", digest(old))])
    ring.replace([Key("new", digest(new))])
    assert ring.find(bearer(new)).name == "new"
    with pytest.raises(Unauthorized):
        ring.find(bearer(old))


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/v1/chat/completions", Scope.INFERENCE),
        ("/v1/anything/new", Scope.INFERENCE),
        ("/tokenize", Scope.INFERENCE),
        ("/v1/models", Scope.MODELS),
        ("/v1/models/../chat/completions", Scope.MODELS),
        ("/metrics", Scope.METRICS),
        ("/admin/drain", Scope.ADMIN),
        ("/v1", None),
        ("/metricsx", None),
        ("/nothing", None),
    ],
)
def test_what_a_path_needs(path: str, scope: Scope | None) -> None:
    assert scope_of(path) == scope


def test_every_route_has_its_scope() -> None:
    """A new route that is neither open nor in a scope would be there for every key."""
    app = create_app(Service({}), AccessOptions(), ServerLimits())
    paths = set(app.openapi()["paths"]) | {"/openapi.json"}
    assert len(paths) > 8
    assert {path for path in paths if scope_of(path) is None} == (OPEN_PATHS & paths) | ANY_KEY
