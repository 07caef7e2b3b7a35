"""A detector whose faces are known by construction: an ONNX graph in YuNet's form that finds bright squares.

Its score at a cell is the mean of the blue channel there, over 255; its boxes are as large as the cell and centred on
the cell's top left corner, and all its landmarks lie on that corner.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facetrain.cli.app import run_cli
from facetrain.core.faces import Image

_KINDS = ("cls", "obj", "bbox", "kps")
Build = Callable[..., Path]


def build_spots(
    path: Path,
    *,
    strides: Sequence[int] = (8, 16, 32),
    landmarks: int = 5,
    size: tuple[int, int] | None = None,
    rename: Callable[[str], str] = str,
    box_size: float = 0.0,
    input_type: int = TensorProto.FLOAT,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write the graph. size: (width, height) that the file fixes; box_size: the raw log size of every box."""
    nodes, outputs, constants = [], {}, {}

    def constant(name: str, value: np.ndarray) -> str:
        constants[name] = numpy_helper.from_array(value, name)
        return name

    zero, one = constant("zero", np.float32([0.0])), constant("one", np.float32([1.0]))
    nodes.append(helper.make_node("Cast", ["input"], ["pixels"], to=TensorProto.FLOAT))
    weight = constant("blue", np.float32([1 / 255, 0, 0]).reshape(1, 3, 1, 1))
    nodes.append(helper.make_node("Conv", ["pixels", weight], ["brightness"]))
    for s in strides:
        nodes.append(
            helper.make_node("AveragePool", ["brightness"], [f"mean_{s}"], kernel_shape=[s, s], strides=[s, s])
        )
        column = constant("column", np.int64([0, -1, 1]))
        nodes.append(helper.make_node("Reshape", [f"mean_{s}", column], [f"cls_{s}"]))
        nodes.append(helper.make_node("Mul", [f"cls_{s}", zero], [f"zeros_{s}"]))
        nodes.append(helper.make_node("Add", [f"zeros_{s}", one], [f"obj_{s}"]))
        nodes.append(
            helper.make_node(
                "Add", [f"zeros_{s}", constant("side", np.float32([0, 0, box_size, box_size]))], [f"bbox_{s}"]
            )
        )
        wide = constant("points", np.zeros(2 * landmarks, np.float32))
        outputs |= {f"cls_{s}": 1, f"obj_{s}": 1, f"bbox_{s}": 4}
        if landmarks:
            nodes.append(helper.make_node("Add", [f"zeros_{s}", wide], [f"kps_{s}"]))
            outputs[f"kps_{s}"] = 2 * landmarks
    ordered = sorted(outputs, key=lambda name: (_KINDS.index(name.split("_")[0]), outputs[name]))
    for name in ordered:
        nodes.append(helper.make_node("Identity", [name], [f"final_{name}"]))
    for node in nodes:
        node.output[:] = [
            rename(name.removeprefix("final_")) if name.startswith("final_") else f"in_{name}" for name in node.output
        ]
        node.input[:] = [name if name in constants or name == "input" else f"in_{name}" for name in node.input]
    width, height = size or ("width", "height")
    graph = helper.make_graph(
        nodes,
        "spots",
        [helper.make_tensor_value_info("input", input_type, [1, 3, height, width])],
        [helper.make_tensor_value_info(rename(name), TensorProto.FLOAT, [1, None, outputs[name]]) for name in ordered],
        list(constants.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.fixture
def make_spots(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Write a spot detector with the given settings and give its path."""

    def make(name: str = "spots.onnx", **settings: object) -> Path:
        return build_spots(tmp_path_factory.mktemp("weights") / name, **settings)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spot detector that takes any size."""
    return build_spots(tmp_path_factory.mktemp("spots") / "spots.onnx")


def spotted(width: int, height: int, *corners: tuple[int, int], side: int = 8) -> Image:
    """A black image with bright blue squares of `side` pixels at (x, y), multiples of `side`."""
    image = np.zeros((height, width, 3), np.uint8)
    for x, y in corners:
        image[y : y + side, x : x + side, 0] = 255
    return image


@pytest.fixture(scope="session")
def spot_image() -> Callable[..., Image]:
    """`spotted`, for tests."""
    return spotted


@pytest.fixture
def folder(tmp_path, monkeypatch, spots, spot_image):
    """A current folder with weights and images: in/a.png (1 face), in/sub/b.png (2 faces), in/none.png."""
    monkeypatch.chdir(tmp_path)
    Path("spots.onnx").write_bytes(spots.read_bytes())
    Path("in/sub").mkdir(parents=True)
    cv2.imwrite("in/a.png", spot_image(100, 60, (8, 16)))
    cv2.imwrite("in/sub/b.png", spot_image(64, 64, (16, 16), (40, 40)))
    cv2.imwrite("in/none.png", spot_image(33, 20))
    return tmp_path


@pytest.fixture
def detect(folder, capfd):
    """Run `facetrain detect -w spots.onnx …` and give exit code, stdout, stderr."""

    def run(*arguments):
        code = run_cli(["detect", "-w", "spots.onnx", *arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return run
