"""The recipe for TFLite files, run in an environment with the converter (environments.py)."""

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from environments import Environment, python_of

from facetrain.config.load import load_config
from facetrain.config.schema import Config
from facetrain.data.sample_set.make import draw_image
from facetrain.export.network.fold import fold
from facetrain.export.onnx.model import write_onnx
from facetrain.model.weights import load_model, save_checkpoint
from facetrain.model.yunet import build

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "examples/to_tflite.py"
# torch is lent by the running environment, and with it everything that facetrain needs
CONVERTER = Environment("litert-torch", ("litert-torch==0.10.0",), shares=("torch",))
WIDTH, HEIGHT = 320, 256
RUN_FILE = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
run = Interpreter(sys.argv[1]).get_signature_runner("serving_default")
np.savez(sys.argv[3], **run(input=np.load(sys.argv[2])))
"""
# Takes the file that is there for what the converter has made.
WRONG_FILE = """
import sys
from pathlib import Path
import to_tflite
content = Path(sys.argv.pop()).read_bytes()
to_tflite.convert = lambda *_: content
to_tflite.main()
"""


@pytest.fixture(scope="module")
def converter() -> Path:
    """The interpreter of an environment with litert-torch: about 850 MB, made in well under a minute."""
    if os.environ.get("FACETRAIN_TEST_TFLITE") == "0":
        pytest.skip("FACETRAIN_TEST_TFLITE is 0")
    return python_of(CONVERTER)


def run(python: Path | str, *arguments: Path | str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(RECIPE.parent)])}
    command = [str(python), *map(str, arguments)]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def checkpoint(path: Path, config: Config, seed: int) -> Path:
    """An untrained network of a configuration."""
    save_checkpoint(path, build(config.model, seed).state_dict(), config, {})
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the example's model: another shape than the presets'."""
    return checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.pt", load_config(ROOT / "examples/tiny.yaml"), 2)


@pytest.fixture(scope="module")
def converted(converter: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The bundled weights, and with channels last the tiny model, as the recipe writes them; both at the same time."""
    folder = tmp_path_factory.mktemp("tflite")
    files = folder / "yunet_n.tflite", folder / "tiny.tflite"
    size = f"{WIDTH}x{HEIGHT}"
    calls = [("yunet_n", files[0], "--size", size), (tiny, files[1], "--size", size, "--channels-last")]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda arguments: run(converter, RECIPE, *arguments), calls))
    for file, done in zip(files, results, strict=True):
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.startswith(f"{file}: {file.stat().st_size:,} bytes, input {size}; largest differences: cls ")
        assert len(done.stdout.splitlines()) == 1  # what the converter tells of its steps goes elsewhere
    return files


def image() -> np.ndarray:
    """(1, 3, H, W) float32 with faces."""
    return draw_image(7, 1, 10)[0][:HEIGHT, :WIDTH].transpose(2, 0, 1)[None].astype(np.float32)


def compare(converter: Path, file: Path, onnx: Path, channels_last: bool) -> None:
    images = image()
    given, result = file.with_name("images.npy"), file.with_name("outputs.npz")
    np.save(given, images.transpose(0, 2, 3, 1) if channels_last else images)
    done = run(converter, "-c", RUN_FILE, file, given, result)
    assert done.returncode == 0, done.stderr[-3000:]
    session = onnxruntime.InferenceSession(onnx)
    names = [output.name for output in session.get_outputs()]
    with np.load(result) as outputs:
        assert sorted(outputs) == sorted(names)
        for name, wanted in zip(names, session.run(names, {"input": images}), strict=True):
            limit = 1e-4 if name.startswith(("cls", "obj")) else 1e-3
            np.testing.assert_allclose(outputs[name], wanted, rtol=0, atol=limit)


def test_the_file_gives_the_onnx_files_numbers_under_its_names(converter: Path, converted: tuple[Path, Path]) -> None:
    compare(converter, converted[0], ROOT / "facetrain/detect/weights/yunet_n.onnx", channels_last=False)


def test_another_model_with_channels_last(converter: Path, converted: tuple[Path, Path], tiny: Path) -> None:
    onnx = tiny.with_suffix(".onnx")
    write_onnx(fold(load_model(tiny)), onnx)
    compare(converter, converted[1], onnx, channels_last=True)


def test_a_file_that_differs_is_not_written(converter: Path, converted: tuple[Path, Path], tmp_path: Path) -> None:
    other = checkpoint(tmp_path / "other.pt", load_config("yunet_n"), 1)
    output = tmp_path / "other.tflite"
    output.write_bytes(b"older")
    done = run(converter, "-c", WRONG_FILE, other, output, "--size", f"{WIDTH}x{HEIGHT}", converted[0])
    assert done.returncode == 1
    assert "error: the TFLite file differs from the ONNX file: cls " in done.stderr
    assert output.read_bytes() == b"older"


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["yunet_n", "--size", "330x256"], 1, "the next larger one is 352x256"),
        (["yunet_n", "--size", "big"], 2, "write it as WxH"),
        (["yunet_n"], 1, "error: litert-torch cannot be imported"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments: list[str], code: int, message: str, tmp_path: Path) -> None:
    if "imported" in message and importlib.util.find_spec("litert_torch"):
        pytest.skip("litert-torch is installed here")
    output = tmp_path / "model.tflite"
    done = run(sys.executable, RECIPE, arguments[0], output, *arguments[1:])
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not output.exists()
