"""Checkpoints, images and a checkout of the stand-in library for the tests of C++ export."""

import shutil
from pathlib import Path

import pytest
import torch

from facetrain.config.load import load_config
from facetrain.config.schema import Config, LandmarksConfig, ModelConfig
from facetrain.core.compiler import Compiler, find_compiler
from facetrain.core.faces import Image
from facetrain.core.images import write_image
from facetrain.data.sample_set.make import draw_image
from facetrain.export.cpp.targets.libfacedetection_forward import forward_text
from facetrain.export.network.fold import fold
from facetrain.model.weights import save_checkpoint
from facetrain.model.yunet import YuNet, build

STAND_IN = Path(__file__).parent / "stand_in"

YUNET_S = load_config("yunet_s").model
TOWERS = ModelConfig(  # one stage less than the library's, two shared units, towers, and widths that fill no vector
    stem=(3, 12, 20),
    stages=((20, 24), (24, 40), (40, 40), (40, 40)),
    pool_after=(0, 1, 2, 3),
    maps=(2, 3, 4),
    shared_convs=2,
    tower_convs=2,
    head_channels=28,
)
NO_LANDMARKS = ModelConfig(
    stem=(3, 6, 10),
    stages=((10, 14), (14, 14), (14, 14)),
    pool_after=(1, 2),
    maps=(1, 2, 3),
    strides=(2, 4, 8),
    shared_convs=0,
    tower_convs=1,
    head_channels=18,
    landmarks=LandmarksConfig((), ()),
)


def need_compiler() -> Compiler:
    """The compiler; tests that need one are skipped without."""
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("needs a C++ compiler: g++, clang++, c++, or what CXX names")
    return compiler


def lively_model(config: ModelConfig, faces: int = 40) -> YuNet:
    """A network without training that still finds about as many boxes in `image()`, of scores that are spread."""
    model = build(config, seed=1).train()
    image = torch.from_numpy(drawn_image()).permute(2, 0, 1)[None].float()
    image = torch.nn.functional.pad(image, (0, 0, 0, -image.shape[2] % max(config.strides)))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # the image's own statistics: a fresh network hardly sees its image otherwise
    with torch.no_grad():
        model(image)
        model.eval()
        before = model(image)
        spread = {"cls": 2 / before.cls.std(), "obj": 2 / before.obj.std(), "box": 1 / before.boxes.std()}
        for level in model.levels:
            for name, factor in spread.items():
                output = getattr(level, name).depthwise
                output.weight *= factor
                output.bias *= factor
        predictions = model(image)
        low, high = -60.0, 60.0
        for _ in range(40):
            shift = (low + high) / 2
            scores = predictions.cls.sigmoid() * (predictions.obj + shift).sigmoid()
            low, high = (low, shift) if (scores >= 0.04).sum() > faces else (shift, high)
        for level in model.levels:
            level.obj.depthwise.bias += shift
    return model


def write_checkpoint(model: YuNet, path: Path) -> Path:
    save_checkpoint(path, model.state_dict(), Config(model=model.config), {})
    return path


def drawn_image() -> Image:
    """(360, 480, 3), several drawn faces."""
    return draw_image(0, 1, 9)[0]


def write_images(folder: Path) -> Path:
    """Two images to check on, one of them of odd size."""
    write_image(folder / "a.png", drawn_image())
    write_image(folder / "b.png", draw_image(0, 1, 1)[0][3:250, :333])
    return folder


def make_checkout(folder: Path) -> Path:
    """A checkout of the stand-in library, made for yunet_s as the real one is."""
    shutil.copytree(STAND_IN, folder)
    own = forward_text(fold(build(YUNET_S, seed=0).eval()), "the library's own")
    (folder / "src/facedetectcnn-model.cpp").write_text(f"#define NUM_CONV_LAYER 53\n{own}")
    table = "// columns\nConvInfoStruct param_pConvInfo[53] = {\n};"
    (folder / "src/facedetectcnn-data.cpp").write_text(f'// one\n// two\n#include "facedetectcnn.h"\n\n{table}')
    return folder
