"""Who may use the server, for what, how much, and from where."""

from lepton_ai.serve.access.keys import Key, KeyRing, digest, new_secret

__all__ = ["Key", "KeyRing", "digest", "new_secret"]
