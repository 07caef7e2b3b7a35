"""Write a checkpoint as a TFLite file of a fixed size and compare it with the ONNX file before it is kept.

The converter, litert-torch, brings some 50 packages along, so it gets an environment of its own:

    python3.11 -m venv tflite
    tflite/bin/pip install . litert-torch==0.10.0
    tflite/bin/python examples/to_tflite.py runs/yunet_n-1/best.pt yunet_n.tflite --size 320x256

Tried with Python 3.11, torch 2.14.1, litert-torch 0.10.0 and ai-edge-litert 2.3.0; there are wheels for Python 3.11 to
3.14, for Linux. The file is float32 and asks for nothing but TFLite's own operators.

What comes out, in the signature `serving_default`:

    input        (1, 3, H, W) float32, BGR, 0 … 255; with --channels-last (1, H, W, 3), as cameras give it
    cls_8 … kps_32   the outputs of the ONNX file by their names, with the same shapes and numbers

so that examples/onnx_numpy.py decodes them as it stands:

    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter("yunet_n.tflite").get_signature_runner()
    outputs = run(input=image)  # {"cls_8": (1, P, 1), …}

Ask for outputs by name, through the signature. A runtime without signatures knows them as
`serving_default_cls_8_output` and so on, in an order of its own, which is not that of the ONNX file.
"""

import argparse
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from facetrain.core.errors import FacetrainError
from facetrain.core.files import write_bytes
from facetrain.detect.find_weights import find_weights
from facetrain.export.network.fold import fold
from facetrain.export.onnx.model import OnnxOptions, onnx_bytes, onnx_model, output_names
from facetrain.model.weights import load_model

LIMITS = {"cls": 1e-4, "obj": 1e-4, "bbox": 1e-3, "kps": 1e-3}


class NamedOutputs(nn.Module):
    """The network with the ONNX file's names and sigmoids; the converter takes both over."""

    def __init__(self, model, channels_last):
        super().__init__()
        self.model, self.channels_last = model, channels_last

    def forward(self, input):
        levels = self.model.raw_levels(input.permute(0, 3, 1, 2) if self.channels_last else input)
        values = [level[kind] for kind in range(len(levels[0])) for level in levels]
        names = output_names(self.model.config)
        outputs = dict(zip(names, values[: len(names)], strict=True))
        return {name: v.sigmoid() if name.startswith(("cls", "obj")) else v for name, v in outputs.items()}


def convert(model, size, channels_last):
    """The file's content."""
    try:
        import litert_torch
    except ImportError as error:
        raise FacetrainError(f"litert-torch cannot be imported: {error}", f"how to install it: {__file__}") from error

    width, height = size
    sample = torch.zeros((1, height, width, 3) if channels_last else (1, 3, height, width))
    edge = litert_torch.convert(NamedOutputs(model, channels_last).eval(), sample_kwargs={"input": sample})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        edge.export(str(path))
        return path.read_bytes()


def largest_differences(content, model, size, channels_last):
    """By kind of output, between the TFLite file and the ONNX file, on three inputs."""
    from ai_edge_litert.interpreter import Interpreter

    session = onnxruntime.InferenceSession(onnx_bytes(onnx_model(fold(model), {}, OnnxOptions(size=size))))
    names = output_names(model.config)
    run = Interpreter(model_content=content).get_signature_runner()
    found = dict.fromkeys(LIMITS, 0.0)
    for seed in range(3):
        noise = np.random.default_rng(seed).integers(0, 256, (1, 3, size[1], size[0])).astype(np.float32)
        outputs = run(input=noise.transpose(0, 2, 3, 1).copy() if channels_last else noise)
        for name, wanted in zip(names, session.run(names, {"input": noise}), strict=True):
            kind = name.split("_")[0]
            same_shape = outputs[name].shape == wanted.shape
            gap = float(np.abs(outputs[name] - wanted).max()) if same_shape else np.inf
            found[kind] = max(found[kind], gap if np.isfinite(gap) else np.inf)
    return found


def main():
    parser = argparse.ArgumentParser(description="Write a checkpoint as a TFLite file and check it.")
    parser.add_argument("weights", help="a checkpoint, or the name of bundled weights")
    parser.add_argument("output", type=Path, help="file to write")
    parser.add_argument("--size", default="320x320", help="WxH, multiples of the largest stride")
    parser.add_argument("--channels-last", action="store_true", help="input (1, H, W, 3) instead of (1, 3, H, W)")
    given = parser.parse_args()
    try:
        size = tuple(map(int, given.size.split("x")))
        width, height = size
    except ValueError:
        parser.error(f"--size {given.size}: write it as WxH, for example 320x256")
    try:
        model = load_model(find_weights(given.weights, "export")).eval()
        OnnxOptions(size=size).check(model.config.strides)
        with redirect_stdout(sys.stderr):  # the converter tells of its steps
            content = convert(model, size, given.channels_last)
            differences = largest_differences(content, model, size, given.channels_last)
        report = ", ".join(f"{kind} {value:.1e}" for kind, value in differences.items())
        if any(value > LIMITS[kind] for kind, value in differences.items()):
            raise FacetrainError(f"the TFLite file differs from the ONNX file: {report}", "nothing was written")
        write_bytes(given.output, content)
    except FacetrainError as error:
        sys.exit(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""))
    print(f"{given.output}: {len(content):,} bytes, input {width}x{height}; largest differences: {report}")


if __name__ == "__main__":
    main()
