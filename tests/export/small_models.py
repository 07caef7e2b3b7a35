"""Small networks of several shapes, and images to show them, for tests of the lower precisions."""

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from facetrain.config.schema import LandmarksConfig, ModelConfig
from facetrain.core.faces import Floats
from facetrain.core.images import write_image
from facetrain.data.sample_set.make import draw_image
from facetrain.detect.bundled import bundled_weights
from facetrain.export.network.fold import fold
from facetrain.export.network.folded import FoldedNet
from facetrain.export.onnx.model import onnx_model
from facetrain.model.weights import load_model
from facetrain.model.yunet import build

MODELS = {
    "as published, narrow": ModelConfig(
        stem=(3, 6, 6),
        stages=((6, 12), (12, 12), (12, 12), (12, 12), (12, 12)),
        shared_convs=0,
        landmarks=LandmarksConfig(("a", "b"), ()),
    ),
    "towers, no landmarks": ModelConfig(
        stem=(3, 4, 8),
        stages=((8, 12), (12, 12), (12, 12)),
        pool_after=(0, 1, 2),
        maps=(2, 3),
        strides=(8, 16),
        shared_convs=2,
        tower_convs=1,
        head_channels=10,
        landmarks=LandmarksConfig((), ()),
    ),
    "one level": ModelConfig(
        stem=(3, 4, 8),
        stages=((8, 12),),
        pool_after=(),
        maps=(1,),
        strides=(2,),
        shared_convs=0,
        landmarks=LandmarksConfig(("a", "b", "c"), ()),
    ),
}
NAMES = [*MODELS, "yunet_n"]


@cache
def network(name: str) -> FoldedNet:
    """One of MODELS, whose batch norms have seen something, or the bundled yunet_n."""
    if name == "yunet_n":
        return fold(load_model(bundled_weights("yunet_n", ".pt")))
    model = build(MODELS[name], seed=1).train()
    with torch.no_grad():
        for index in range(3):
            # widths of channels that differ, as training makes them
            for unit in model.modules():
                if isinstance(unit, torch.nn.BatchNorm2d):
                    unit.weight.copy_(torch.logspace(-1, 0.5, len(unit.weight)))
            model(torch.from_numpy(drawn_image(index)))
    return fold(model.eval())


@cache
def file_of(name: str) -> onnx.ModelProto:
    """The network as a float32 file; do not change it."""
    return onnx_model(network(name), {"note": "kept"})


@cache
def drawn_image(index: int) -> Floats:
    """A drawn image as (1, 3, 256, 320) float32."""
    image = draw_image(0, 0, index)[0][:256, :320]
    canvas = np.zeros((256, 320, 3), np.uint8)
    canvas[: image.shape[0], : image.shape[1]] = image
    return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], np.float32)


def write_images(folder: Path, count: int) -> list[Path]:
    """Drawn images as files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index}.png" for index in range(count)]
    for index, path in enumerate(paths):
        write_image(path, np.ascontiguousarray(drawn_image(index)[0].transpose(1, 2, 0).astype(np.uint8)))
    return paths


def run(model: onnx.ModelProto, image: Floats) -> dict[str, Floats]:
    """Outputs by name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"input": image}), strict=True))
