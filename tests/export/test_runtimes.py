"""Exported files give in other versions of OpenCV and onnxruntime what the files that they stand for give here.

Each version works in an environment of its own (environments.py), where runtime_probe.py runs several files at once.
"""

import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from environments import Environment, make_all, python_of

from facetrain.core.boxes import pad_image, padded_size
from facetrain.core.faces import Floats, Image
from facetrain.core.images import read_image
from facetrain.data.sample_set.make import draw_image
from facetrain.export.network.fold import fold
from facetrain.export.onnx.model import write_onnx
from facetrain.export.onnx.opencv_yn import Thresholds, candidates, possible_and_certain
from facetrain.export.onnx.request import OPSETS, OnnxOptions
from facetrain.model.weights import load_model

pytestmark = pytest.mark.slow

PROBE = Path(__file__).with_name("runtime_probe.py")
BUNDLED = Path(__file__).parents[2] / "facetrain/detect/weights/yunet_n"


@dataclass(frozen=True)
class Runtime:
    """version: how it starts. engine: OPENCV_FORCE_DNN_ENGINE, OpenCV 5's choice of what runs a network, also for the
    classes that have no argument for it: 1 classic, 2 new, 4 ONNX Runtime.
    """

    environment: Environment
    version: str
    engine: int | None = None


OPENCV_5 = Environment("opencv-5", ("opencv-python-headless>=5,<6",))
RUNTIMES = {
    "opencv 4.8": Runtime(Environment("opencv-4.8", ("opencv-python-headless==4.8.1.78", "numpy<2")), "4.8.1"),
    "opencv 4": Runtime(Environment("opencv-4", ("opencv-python-headless>=4.14,<5",)), "4."),
    "opencv 5 classic": Runtime(OPENCV_5, "5.", 1),
    "opencv 5 new": Runtime(OPENCV_5, "5.", 2),
    "opencv 5 onnxruntime": Runtime(OPENCV_5, "5.", 4),
    "onnxruntime 1.20": Runtime(Environment("onnxruntime-1.20", ("onnxruntime~=1.20.0",)), "1.20."),
    "onnxruntime": Runtime(Environment("onnxruntime", ("onnxruntime>=1.32",)), "1."),
}
OPENCV = [name for name in RUNTIMES if name.startswith("opencv")]
# FaceDetectorYN of OpenCV 5.0.0 may set the size once where its network does not run on the new engine: the second
# time, or the first if the file has a size of its own, ends in "Input shape redefinition is not allowed".
ONE_SIZE = ["opencv 5 classic"]
KNOW_SUPPRESSION = [name for name in RUNTIMES if name not in ("opencv 4.8", "opencv 4", "opencv 5 classic")]

SIZES = ((320, 320), (640, 480), (550, 375), (440, 293))  # width, height; padded to multiples of 32
FIXED = (640, 480)
RAW = {
    **{f"opset {opset}": OnnxOptions(opset=opset) for opset in OPSETS},
    "fixed size": OnnxOptions(size=FIXED),
}
DECODED = {
    "decoded": OnnxOptions(form="decoded", score=0.2),
    "decoded, fixed size": OnnxOptions(form="decoded", size=FIXED, score=0.2),
}
ROWS = {"rows": OnnxOptions(form="rows", size=FIXED)}
RELEASED = ("yunet_n", "yunet_s")


@dataclass(frozen=True)
class Case:
    """Files to run and what goes into them.

    expected: of each file another one whose outputs it should give, run by onnxruntime here
    arrays:   inputs (B, 3, H, W) float32 and images (H, W, 3) uint8; images: the names of the latter
    fixed:    files that onnxruntime runs at the size FIXED only
    results:  of each runtime its arrays, or how it failed
    known, faces: what was computed here, kept for the next runtime
    """

    folder: Path
    files: dict[str, Path]
    expected: dict[str, Path]
    arrays: dict[str, np.ndarray]
    images: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    results: dict[str, dict[str, np.ndarray] | str] = field(default_factory=dict)
    known: dict[tuple[Path, str], dict[str, Floats]] = field(default_factory=dict)
    faces: dict[tuple[Path, str], tuple[Floats, set[int], set[int]]] = field(default_factory=dict)

    def inputs(self, file: str, runtime: str) -> list[str]:
        held = runtime.startswith("onnxruntime") and file in self.fixed
        shapes = {name: array.shape for name, array in self.arrays.items() if name not in self.images}
        return [name for name, shape in shapes.items() if not held or shape[:1:-1] == FIXED]

    def found(self, runtime: str) -> dict[str, np.ndarray]:
        """What the probe brought back; run at the first call."""
        python = python_of(RUNTIMES[runtime].environment)
        if RUNTIMES[runtime].engine == 4 and not re.search(r"ONNX Runtime: +YES", build_information(python)):
            pytest.skip("this wheel of OpenCV 5 is built without ONNX Runtime, and would take another engine instead")
        if runtime not in self.results:
            self.results[runtime] = self._run(python, runtime)
        result = self.results[runtime]
        if isinstance(result, str):
            pytest.fail(result)
        return result

    def wanted(self, file: str, key: str) -> dict[str, Floats]:
        """What a file should give for an input: output name -> value."""
        path = self.expected[file]
        if (path, key) not in self.known:
            self.known[path, key] = outputs_here(path, self.arrays[key])
        return self.known[path, key]

    def allowed(self, file: str, image: str) -> tuple[Floats, set[int], set[int]]:
        """All candidates (P, 15), which of them FaceDetectorYN's rules allow and which they demand."""
        key = (self.expected[file], image)
        if key not in self.faces:
            images = as_input(self.arrays[image])
            rows = candidates(outputs_here(key[0], images), images.shape[3], images.shape[2])
            self.faces[key] = (rows, *possible_and_certain(rows, Thresholds()))
        return self.faces[key]

    def _run(self, python: Path, runtime: str) -> dict[str, np.ndarray] | str:
        files = self.files.items()
        models = {name: {"path": str(path), "inputs": self.inputs(name, runtime)} for name, path in files}
        arrays, job, result = (self.folder / name for name in ("arrays.npz", f"{runtime}.json", f"{runtime}.npz"))
        content = {"models": models, "images": self.images, "resize": runtime not in ONE_SIZE}
        job.write_text(json.dumps(content))
        if not arrays.exists():
            np.savez(arrays, **self.arrays)
        engine = RUNTIMES[runtime].engine
        variables = {**os.environ, **({"OPENCV_FORCE_DNN_ENGINE": str(engine)} if engine else {})}
        command = [python, "-I", PROBE, runtime.split(maxsplit=1)[0], job, arrays, result]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"{runtime}: the probe ended with {done.returncode}\n{done.stderr[-3000:]}"
        with np.load(result) as stored:
            found = dict(stored)
        version = str(found["version"])
        wanted = RUNTIMES[runtime].version
        return found if version.startswith(wanted) else f"{runtime}: {version} was run instead of {wanted}"


@cache
def build_information(python: Path) -> str:
    """What an OpenCV says about itself."""
    command = [python, "-I", "-c", "import cv2; print(cv2.getBuildInformation())"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@cache
def here(path: Path) -> Any:
    """The file in the running environment's onnxruntime."""
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def outputs_here(path: Path, images: Floats) -> dict[str, Floats]:
    names = [output.name for output in here(path).get_outputs()]
    return dict(zip(names, here(path).run(names, {"input": images}), strict=True))


def as_input(image: Image) -> Floats:
    """(1, 3, H, W), padded to multiples of 32."""
    height, width = image.shape[:2]
    return pad_image(image, *padded_size(width, height, 32)).transpose(2, 0, 1)[None].astype(np.float32)


def noise(width: int, height: int) -> Floats:
    return as_input(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


def raw_inputs() -> dict[str, Floats]:
    arrays = {f"{width}x{height}": noise(width, height) for width, height in SIZES}
    return arrays | {"two": np.concatenate([noise(320, 320), 255 - noise(320, 320)])}


@pytest.fixture(scope="module", autouse=True)
def _environments() -> None:
    make_all({runtime.environment for runtime in RUNTIMES.values()})


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """The weights that come along: the file as it is, and exported in several ways."""
    folder = tmp_path_factory.mktemp("bundled")
    net = fold(load_model(BUNDLED.with_suffix(".pt")))
    files = {"as it is": BUNDLED.with_suffix(".onnx")}
    for name, options in RAW.items():
        files[name] = folder / f"{name}.onnx"
        write_onnx(net, files[name], options=options)
    drawn = {f"drawn {index}": draw_image(7, 1, index)[0] for index in (3, 10, 23)}
    drawn["black"] = np.zeros((100, 60, 3), np.uint8)
    expected = dict.fromkeys(files, files["as it is"])
    return Case(folder, files, expected, raw_inputs() | drawn, tuple(drawn), ("fixed size",))


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Case:
    """The YuNet authors' weights, exported, beside the files that the authors exported."""
    folder = tmp_path_factory.mktemp("released")
    files = {name: folder / f"{name}.onnx" for name in RELEASED}
    for name, path in files.items():
        write_onnx(fold(load_model(shared / f"reference/yunet/{name}.pth")), path)
    images = {path.name: read_image(path) for path in sorted((shared / "reference/images").glob("*.jpg"))}
    expected = {name: shared / f"reference/yunet/{name}_dynamic.onnx" for name in files}
    return Case(folder, files, expected, raw_inputs() | images, tuple(images))


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Files with decoding inside, with and without suppression."""
    folder = tmp_path_factory.mktemp("decoded")
    net = fold(load_model(BUNDLED.with_suffix(".pt")))
    files = {name: folder / f"{name}.onnx" for name in (*DECODED, *ROWS)}
    for name, path in files.items():
        write_onnx(net, path, options=(DECODED | ROWS)[name])
    drawn = as_input(pad_image(draw_image(7, 1, 10)[0], *FIXED))
    # An input without a face comes last: a runtime that does not survive it has shown the rest.
    arrays = {"faces": drawn, "two": np.concatenate([drawn, drawn[..., ::-1]]), "none": np.zeros_like(drawn)}
    return Case(folder, files, files, arrays, fixed=("decoded, fixed size", "rows"))


@pytest.mark.parametrize("file", ["as it is", *RAW])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_bundled_weights_give_the_same_numbers(runtime: str, file: str, bundled: Case) -> None:
    compare_raw(bundled, runtime, file)


@pytest.mark.parametrize("file", RELEASED)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_released_weights_give_the_released_files_numbers(runtime: str, file: str, released: Case) -> None:
    compare_raw(released, runtime, file)


def compare_raw(case: Case, runtime: str, file: str) -> None:
    found = case.found(runtime)
    assert f"{file}|error" not in found, found[f"{file}|error"]
    for key in case.inputs(file, runtime):
        wanted = case.wanted(file, key)
        assert len(wanted) == 12
        for output, value in wanted.items():
            limit = 1e-4 if output.startswith(("cls", "obj")) else 1e-3
            np.testing.assert_allclose(found[f"{file}|raw|{key}|{output}"], value, rtol=0, atol=limit)


@pytest.mark.parametrize("file", ["as it is", *RAW])
@pytest.mark.parametrize("runtime", OPENCV)
def test_face_detector_yn_finds_the_same_faces_in_drawn_images(runtime: str, file: str, bundled: Case) -> None:
    if runtime in ONE_SIZE and file == "fixed size":
        assert "redefinition" in str(bundled.found(runtime)[f"{file}|faces error"])
    else:
        assert compare_faces(bundled, runtime, file) > 20


@pytest.mark.parametrize("file", RELEASED)
@pytest.mark.parametrize("runtime", OPENCV)
def test_face_detector_yn_finds_the_known_faces(
    runtime: str, file: str, released: Case, expected_export: dict[str, Any]
) -> None:
    assert compare_faces(released, runtime, file) > 60
    for image, numbers in expected_export["pictures"].items():
        known = np.array(numbers["FaceDetectorYN"][file]).reshape(-1, 15)
        rows = released.found(runtime)[f"{file}|faces|{image}"]
        assert len(rows) == len(known)
        for face in known:  # written with three decimals
            assert np.abs(rows - face).max(1).min() <= 2e-3


@pytest.fixture(scope="module")
def expected_export(shared: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((shared / "reference/expected-export.json").read_text())
    return document


def compare_faces(case: Case, runtime: str, file: str) -> int:
    """All images' faces, as sets, against FaceDetectorYN's rules on the raw numbers; returns how many there are."""
    found, count = case.found(runtime), 0
    assert f"{file}|faces error" not in found, found[f"{file}|faces error"]
    for image in case.images:
        rows, possible, certain = case.allowed(file, image)
        faces = found[f"{file}|faces|{image}"]
        places = [min(possible, key=lambda index, face=face: np.abs(rows[index] - face).max()) for face in faces]
        assert certain <= set(places)
        assert len(set(places)) == len(places)
        np.testing.assert_allclose(faces, rows[places], rtol=0, atol=1e-3)
        count += len(faces)
    if runtime not in ONE_SIZE:  # after images of other sizes the first one gives what it gave
        first = case.images[0]
        np.testing.assert_array_equal(found[f"{file}|again|{first}"], found[f"{file}|faces|{first}"])
    return count


def test_opencv_5s_engines_are_two(bundled: Case) -> None:
    # Where the choice had no effect, the tests above would look at one engine twice.
    classic, new = (bundled.found(f"opencv 5 {name}") for name in ("classic", "new"))
    for kind in ("raw|640x480|bbox_8", "faces|drawn 3"):
        assert not np.array_equal(classic[f"as it is|{kind}"], new[f"as it is|{kind}"])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_rows_come_out_everywhere(runtime: str, decoded: Case) -> None:
    compare_decoded(decoded, runtime, "rows", "rows")


@pytest.mark.parametrize("file", DECODED)
@pytest.mark.parametrize("runtime", KNOW_SUPPRESSION)
def test_suppression_inside_the_file_gives_the_same_faces(runtime: str, file: str, decoded: Case) -> None:
    assert len(decoded.wanted(file, "faces")["faces"]) > 8
    assert len(decoded.wanted(file, "none")["faces"]) == 0
    compare_decoded(decoded, runtime, file, "faces")


def compare_decoded(case: Case, runtime: str, file: str, output: str) -> None:
    found = case.found(runtime)
    assert f"{file}|error" not in found, found[f"{file}|error"]
    for key in case.inputs(file, runtime):
        wanted = case.wanted(file, key)[output]
        value = found[f"{file}|raw|{key}|{output}"]
        assert len(value) == len(wanted)
        if len(wanted):
            np.testing.assert_allclose(value, wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize("file", DECODED)
@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if name not in KNOW_SUPPRESSION])
def test_suppression_inside_the_file_is_refused_and_not_done_wrongly(runtime: str, file: str, decoded: Case) -> None:
    # A runtime that learns it belongs to KNOW_SUPPRESSION, and into the help of export-onnx.
    assert f"{file}|error" in decoded.found(runtime)
