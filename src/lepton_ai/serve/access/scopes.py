"""What a key opens."""

from __future__ import annotations

import enum

from lepton_ai.errors import LeptonError

OPEN_PATHS = frozenset(("/health", "/ready"))
"""What needs no key: whoever watches over the process has none."""


METRICS_PATH = "/metrics"


class Scope(enum.Enum):
    """A part of the server.

    ``inference``: all that a model computes, and its tokens. ``models``: what is served. ``metrics``: how the server is
    doing. ``admin``: all that changes it. None includes another.
    """

    INFERENCE = "inference"
    MODELS = "models"
    METRICS = "metrics"
    ADMIN = "admin"


DEFAULT_SCOPES = frozenset((Scope.INFERENCE, Scope.MODELS))
"""Those of a key that names none."""


class Forbidden(LeptonError):
    """The key is known, and is not for this."""

    status, code = 403, "permission_denied"


def scope_of(path: str) -> Scope | None:
    """What a key must open for a path, as the router reads it; None: any key will do, as for paths that are none."""
    if path == "/v1/models" or path.startswith("/v1/models/"):
        return Scope.MODELS
    if path.startswith("/v1/") or path in ("/tokenize", "/tokenizer_info", "/detokenize"):
        return Scope.INFERENCE
    if path == METRICS_PATH or path.startswith(f"{METRICS_PATH}/"):
        return Scope.METRICS
    if path.startswith(("/admin/", "/debug/")):
        return Scope.ADMIN
    return None
