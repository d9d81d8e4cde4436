"""A BERT sentence encoder in the forms that the peers run: f32, and 8-bit integers by their own tools.

    python -m bench.peers.converters.encoder MODEL_FOLDER CALIBRATION TARGET_FOLDER

CALIBRATION is JSON, a list of lists of token ids. Runs under the interpreter of the encoders' peers.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
from pathlib import Path

import nncf
import onnx
import openvino
from onnxruntime.quantization import QuantType, quantize_dynamic

from bench.peers.converters.bert_onnx import BertExporter
from bench.peers.cpu_flags import cpu_flags, has_vnni
from bench.peers.padding import pad_batch


def quantize_for_onnx_runtime(source: Path, target: Path) -> None:
    """8-bit weights with a scale for each channel; activations are quantised while it runs.

    Without VNNI, sums of two products of 8 bits saturate on x86: then weights get 7 bits, as ONNX Runtime advises.
    """
    saturates = platform.machine() == "x86_64" and not has_vnni(cpu_flags())
    quantize_dynamic(source, target, per_channel=True, reduce_range=saturates, weight_type=QuantType.QInt8)


def quantize_for_openvino(source: Path, target: Path, calibration: list[list[int]]) -> None:
    """8-bit weights and activations after NNCF's recipe for transformers, with ranges found on ``calibration``."""
    names = ("input_ids", "attention_mask")
    samples = [dict(zip(names, pad_batch([token_ids]), strict=True)) for token_ids in calibration]
    quantized = nncf.quantize(
        openvino.Core().read_model(source),
        nncf.Dataset(samples),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(samples),
    )
    openvino.save_model(quantized, target, compress_to_fp16=False)


def main() -> None:
    """Write all forms."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers.converters.encoder", description=__doc__.splitlines()[0]
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    target: Path = arguments.target
    # ONNX Runtime advises to infer shapes and fold constants first, which changes neither speed nor result here.
    logging.getLogger().setLevel(logging.ERROR)
    onnx.save(BertExporter(arguments.model).export(), target / "f32.onnx")
    quantize_for_onnx_runtime(target / "f32.onnx", target / "int8.onnx")
    calibration = json.loads(arguments.calibration.read_text(encoding="utf-8"))
    quantize_for_openvino(target / "f32.onnx", target / "int8.xml", calibration)


if __name__ == "__main__":
    main()
