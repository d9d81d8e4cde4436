"""Make the CTranslate2 form of a Hugging Face folder: 8-bit weights with a scale for each channel.

    python -m bench.peers.converters.ctranslate2 FOLDER TARGET

Runs under the interpreter of CTranslate2's environment.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ctranslate2.converters import TransformersConverter


def main() -> None:
    """Write the form into a folder that is there."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers.converters.ctranslate2")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    TransformersConverter(str(arguments.source)).convert(str(arguments.target), quantization="int8", force=True)


if __name__ == "__main__":
    main()
