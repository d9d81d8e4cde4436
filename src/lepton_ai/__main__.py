"""``python -m lepton_ai`` is ``lepton``."""

from __future__ import annotations

from lepton_ai.cli.main import run

if __name__ == "__main__":
    run()
