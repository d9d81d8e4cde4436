"""Make the ONNX form of a Hugging Face folder by ONNX Runtime GenAI's own builder: symmetric 4-bit weights.

    python -m bench.peers.converters.onnxruntime FOLDER TARGET

Activations become 8-bit integers while it runs (accuracy level 4), and the head is computed for the last token of a
step only, as it is by every other engine. Runs under the interpreter of ONNX Runtime GenAI's environment.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

# On SmolLM2, tokens a second of prefill / decode of 1 / of 16, and nats a token from exact: blocks of 32
# 696 / 119 / 474 and 0.41, of 64 783 / 135 / 564 and 0.57, of 128 917 / 138 / 634 and 0.66. Those of 32 are the tool's
# default and lie as near as OpenVINO's form does. k_quant is no faster and hardly nearer, 0.40. Without pruning, a
# prefill is a quarter slower.
_OPTIONS = ("accuracy_level=4", "block_size=32", "is_symmetric=true", "prune_lm_head=true")


def main() -> None:
    """Write the form into a folder that is there."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers.converters.onnxruntime")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
        command += ["--input", str(arguments.source), "--output", str(arguments.target), "--cache_dir", cache]
        command += ["--precision", "int4", "--execution_provider", "cpu", "--extra_options", *_OPTIONS]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
