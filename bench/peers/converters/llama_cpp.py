"""Make the Q4_0 form of a GGUF file with llama.cpp; runs under the peers' interpreter.

python -m bench.peers.converters.llama_cpp SOURCE TARGET
"""

from __future__ import annotations

import ctypes
import sys

import llama_cpp


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _ignore_log(level: int, text: bytes, data: object) -> None:
    """llama.cpp prints a line for each tensor."""


def main(source: str, target: str) -> int:
    """Quantise. Returns llama.cpp's status."""
    llama_cpp.llama_log_set(_ignore_log, None)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
    params.allow_requantize = True
    status: int = llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params))
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
