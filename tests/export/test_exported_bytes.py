"""The same weights give the same bytes, whatever is changed inside: hashes of exported files, kept.

`python tests/export/test_exported_bytes.py` writes them anew; a change of them is a change for users, and is said.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from facetrain import __version__
from facetrain.config.schema import ModelConfig
from facetrain.export.cpp.targets.options import CppOptions
from facetrain.export.export_cpp import find_target
from facetrain.export.network.fold import fold
from facetrain.export.network.folded import FoldedNet
from facetrain.export.onnx.model import onnx_bytes, onnx_model
from facetrain.export.onnx.request import OnnxOptions
from facetrain.export.precision.fp16 import Float16
from facetrain.model.weights import load_model
from facetrain.model.yunet import build
from tests.export.small_models import MODELS

KEPT = Path(__file__).parents[1] / "goldens" / "exports.json"
FORMS = {
    "raw": OnnxOptions(),
    "raw 11": OnnxOptions(opset=11, size=(320, 256), batch=1),
    "rows": OnnxOptions(size=(320, 320), form="rows"),
    "decoded": OnnxOptions(form="decoded", opset=17),
}
TARGETS = (("standalone", 9), ("standalone", 4), ("libfacedetection", 3))
SMALL = MODELS | {
    "shared and towers, five landmarks": ModelConfig(
        stem=(3, 4, 8), stages=((8, 12),) * 1 + ((12, 12),) * 4, shared_convs=1, tower_convs=2, head_channels=10
    ),
    "five landmarks, as the library's": ModelConfig(
        stem=(3, 16, 16), stages=((16, 16), (16, 32), (32, 32), (32, 32), (32, 32)), shared_convs=0
    ),
}


def hashes(net: FoldedNet, released: bool) -> dict[str, str]:
    """SHA-256 of every file that is made of a network, the version left out."""
    found = {name: _of_onnx(onnx_model(net, {}, options)) for name, options in FORMS.items()}
    found["fp16"] = _of_onnx(onnx_model(net, {"precision": "fp16"}, storage=Float16(net)))
    for name, digits in TARGETS:
        if name == "libfacedetection" and len(net.config.landmarks.names) != 5:
            continue
        files = find_target(name).files(net, CppOptions("net", digits))
        for path, text in files.items():
            if "weights" in path or "-" in path or (digits == 9 and released):
                content = text.replace(f"facetrain {__version__}", "facetrain")
                found[f"{name} {digits} {path}"] = hashlib.sha256(content.encode()).hexdigest()
    return found


def _of_onnx(model: onnx.ModelProto) -> str:
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    bare.producer_version = ""
    kept = {item.key: item.value for item in model.metadata_props if item.key != "facetrain"}
    onnx.helper.set_model_props(bare, kept)
    return hashlib.sha256(onnx_bytes(bare)).hexdigest()


def small(name: str) -> FoldedNet:
    """A network whose weights are drawn by NumPy: the same on any processor."""
    model = build(SMALL[name])
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                drawn = rng.normal(0, 0.2, tuple(value.shape)).astype(np.float32)
                value.copy_(torch.from_numpy(np.abs(drawn) + 0.5 if key.endswith("running_var") else drawn))
    return fold(model.eval())


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_give_the_kept_bytes(name):
    assert hashes(small(name), released=False) == json.loads(KEPT.read_text())[name]


@pytest.mark.parametrize("name", ["yunet_n", "yunet_s"])
def test_released_weights_give_the_kept_bytes(name, shared):
    net = fold(load_model(shared / f"reference/yunet/{name}.pth"))
    assert hashes(net, released=True) == json.loads(KEPT.read_text())[name]


if __name__ == "__main__":
    from tests.conftest import SHARED

    kept = {name: hashes(small(name), released=False) for name in SMALL}
    for released in ("yunet_n", "yunet_s"):
        kept[released] = hashes(fold(load_model(SHARED / f"reference/yunet/{released}.pth")), released=True)
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")
