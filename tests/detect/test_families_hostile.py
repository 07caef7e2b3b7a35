"""Graphs gone wrong and graphs that mean harm: one clear error, or the faces that are left."""

import os
import subprocess
import sys

import numpy as np
import pytest
from graphs import constant_graph, save
from onnx import TensorProto, helper, numpy_helper
from oracles import detector_families as oracle

from facetrain import FaceDetector
from facetrain.core.errors import DataError
from facetrain.detect.onnx_detector import OnnxDetector
from facetrain.detect.recognise import recognise

KINDS = list(oracle.KINDS)
WIDTH, HEIGHT = 320, 192
IMAGE = np.zeros((HEIGHT, WIDTH, 3), np.uint8)


def one_face(kind):
    """Outputs with a face at one prior, and that prior's number."""
    if kind == "decoded":
        return oracle.encode(kind, WIDTH, HEIGHT, (0.8, (10, 10, 60, 70), [(20, 20)] * 5), 0)
    prior = oracle.priors(kind, WIDTH, HEIGHT)[40]
    _, box, points = oracle.read(kind, oracle.nothing(kind), prior, WIDTH, HEIGHT)
    if box[2] <= box[0]:
        box = (20, 20, 60, 70)
    return oracle.encode(kind, WIDTH, HEIGHT, (0.8, box, points), 40)


@pytest.mark.parametrize("kind", KINDS)
def test_no_face_at_all(kind, tmp_path):
    table = np.tile(
        np.float32(oracle.nothing(kind)), (0 if kind == "decoded" else len(oracle.priors(kind, WIDTH, HEIGHT)), 1)
    )
    outputs = oracle.outputs_of(kind, table, WIDTH, HEIGHT)
    path = constant_graph(tmp_path / "a.onnx", outputs, (WIDTH, HEIGHT), oracle.METADATA.get(kind))
    faces = FaceDetector(path, score=0.02).detect(IMAGE)
    assert faces.boxes.shape == (0, 4)
    assert faces.landmarks.shape == (0, oracle.POINTS[kind], 2)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_outputs(kind, tmp_path):
    outputs = one_face(kind)
    whole, half = (
        FaceDetector(
            constant_graph(
                tmp_path / f"{type_.__name__}.onnx",
                {name: value.astype(type_) for name, value in outputs.items()},
                (WIDTH, HEIGHT),
                oracle.METADATA.get(kind),
            )
        ).detect(IMAGE)
        for type_ in (np.float32, np.float16)
    )
    assert len(whole) == len(half) == 1
    assert half.boxes.dtype == half.scores.dtype == half.landmarks.dtype == np.float32
    np.testing.assert_allclose(half.boxes, whole.boxes, atol=0.6)
    np.testing.assert_allclose(half.scores, whole.scores, atol=2e-3)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "decoded"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.filterwarnings("error")
def test_numbers_that_are_none_are_no_faces(kind, value, tmp_path):
    """Half of every output is spoilt; no warning, no such number among the faces."""
    clean = one_face(kind)
    family = recognise(clean, WIDTH, HEIGHT, oracle.METADATA.get(kind, {})).family
    spoilt = {name: array.copy() for name, array in clean.items()}
    for array in spoilt.values():
        array.reshape(-1)[: array.size // 2] = value
    with np.errstate(all="ignore"):
        found = family.faces(spoilt, WIDTH, HEIGHT, 0.3)
    assert found.boxes.shape == (len(found), 4)

    class Frozen(OnnxDetector):
        def __init__(self, path):
            super().__init__(path, score=0.3)
            self.net.run = lambda blob: spoilt

    path = constant_graph(tmp_path / "a.onnx", clean, (WIDTH, HEIGHT), oracle.METADATA.get(kind))
    faces = Frozen(path).detect_batch([IMAGE])[0]
    assert np.isfinite(faces.boxes).all()
    assert np.isfinite(faces.scores).all()
    assert np.isfinite(faces.landmarks).all()


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_that_change_their_shape_are_one_line(kind, tmp_path):
    """A graph that calls its size free and gives the outputs of 256 x 256 for every image."""
    rows = 3 if kind == "decoded" else len(oracle.priors(kind, 256, 256))
    outputs = oracle.outputs_of(kind, np.tile(np.float32(oracle.nothing(kind)), (rows, 1)), 256, 256)
    path = constant_graph(tmp_path / "a.onnx", outputs, ("width", "height"), oracle.METADATA.get(kind))
    detector = FaceDetector(path)
    assert len(detector.detect(np.zeros((250, 250, 3), np.uint8))) == 0
    if oracle.KINDS[kind] in ("blazeface", "facetrain_decoded") and kind != "rows":
        return  # whose numbers of rows do not follow the size
    with pytest.raises(DataError, match=r"a\.onnx: wrong outputs for an image of \d+x\d+: .* should be") as caught:
        detector.detect(np.zeros((400, 700, 3), np.uint8))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("type_", [np.int64, np.float64])
def test_other_numbers_are_read_as_numbers(type_, tmp_path):
    outputs = {name: np.round(value).astype(type_) for name, value in one_face("yolo5_decoded").items()}
    assert len(FaceDetector(constant_graph(tmp_path / "a.onnx", outputs, (WIDTH, HEIGHT))).detect(IMAGE)) == 1


def test_outputs_that_are_texts(tmp_path):
    nodes = [helper.make_node("Identity", ["texts"], ["out"])]
    texts = helper.make_tensor("texts", TensorProto.STRING, [2], [b"a", b"b"])
    path = save(tmp_path / "a.onnx", nodes, ["out"], [texts], size=(32, 32), output_type=TensorProto.STRING)
    with pytest.raises(DataError, match="no arrays of numbers"):
        FaceDetector(path)


def external(path, location, *, as_node=False, shape=(3,)):
    """A graph whose weights are kept at `location`."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "12")):
        tensor.external_data.add(key=key, value=value)
    last = helper.make_node("Identity", ["w"], ["out"])
    if as_node:
        return save(path, [helper.make_node("Constant", [], ["w"], value=tensor), last], ["out"], size=(32, 32))
    return save(path, [last], ["out"], [tensor], size=(32, 32))


@pytest.fixture
def folder(tmp_path):
    """A model folder, a file of its own in it, a secret beside it, and a link from one to the other."""
    np.float32([1, 2, 3]).tofile(tmp_path / "secret.bin")
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    np.float32([4, 5, 6]).tofile(folder / "own.bin")
    (folder / "link.bin").symlink_to("../secret.bin")
    return folder


@pytest.mark.parametrize("as_node", [False, True])
@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("../secret.bin", "outside its own folder"),
        ("sub/../../secret.bin", "outside its own folder"),
        ("link.bin", "outside its own folder"),
        ("/etc/passwd", "outside its own folder"),
        ("/dev/zero", "outside its own folder"),
        ("absent.bin", "not there"),
        ("*/_ORT_MEM_ADDR_/*", "not there"),
        ("sub", "not there"),
        ("", "not there"),
        ("a\0b", "not there"),
    ],
)
def test_weights_outside_the_folder_are_not_read(folder, location, said, as_node):
    with pytest.raises(DataError, match=said) as caught:
        FaceDetector(external(folder / "a.onnx", location, as_node=as_node))
    assert "a.onnx" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("as_node", [False, True])
@pytest.mark.parametrize("location", ["own.bin", "./own.bin", "sub/../own.bin"])
def test_weights_beside_the_file_are_read(folder, location, as_node, monkeypatch):
    path = external(folder / "a.onnx", location, as_node=as_node)
    for given in (path, os.path.relpath(path)):
        with pytest.raises(DataError, match=r"out \[3\].*fit no known detector family"):
            FaceDetector(given)
    monkeypatch.chdir(folder)
    with pytest.raises(DataError, match=r"out \[3\]"):
        FaceDetector("a.onnx")


def test_weights_of_a_linked_model_are_beside_the_real_one_or_the_link(folder, tmp_path):
    external(folder / "a.onnx", "own.bin")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.onnx").symlink_to(folder / "a.onnx")
    (tmp_path / "links" / "own.bin").symlink_to(folder / "own.bin")
    with pytest.raises(DataError, match=r"out \[3\]"):
        FaceDetector(tmp_path / "links" / "a.onnx")


def test_the_word_alone_is_no_harm(tmp_path):
    outputs = {f"location_{name}": value for name, value in one_face("retinaface").items()}
    assert len(FaceDetector(constant_graph(tmp_path / "a.onnx", outputs, (WIDTH, HEIGHT))).detect(IMAGE)) == 1
    (tmp_path / "b.onnx").write_bytes(b"location, and no model at all" * 9)
    with pytest.raises(DataError, match=r"b\.onnx: not a usable ONNX model"):
        FaceDetector(tmp_path / "b.onnx")


def absurd(path, kind):
    """A graph that asks for more memory than there is."""
    huge, long = numpy_helper.from_array(np.int64([1 << 40]), "huge"), np.int64([0] * 6 + [1 << 26] * 2)
    nodes, constants = {
        "a constant": ([helper.make_node("ConstantOfShape", ["huge"], ["out"])], [huge]),
        "a broadcast": ([helper.make_node("Expand", ["input", "to"], ["out"])], [np.int64([1 << 30, 3, 32, 32])]),
        "a scale": ([helper.make_node("Resize", ["input", "", "to"], ["out"])], [np.float32([1, 1, 1e6, 1e6])]),
        "a border": ([helper.make_node("Pad", ["input", "to"], ["out"])], [long]),
        "weights": ([helper.make_node("Identity", ["to"], ["out"])], None),
        "negative": ([helper.make_node("Identity", ["to"], ["out"])], None),
    }[kind]
    if constants is None:
        dims = [1 << 40] if kind == "weights" else [-5]
        constants = [TensorProto(name="to", data_type=TensorProto.FLOAT, dims=dims, raw_data=b"1234")]
    tensors = [c if isinstance(c, TensorProto) else numpy_helper.from_array(c, "to") for c in constants]
    return save(path, nodes, ["out"], tensors, size=(32, 32))


@pytest.mark.parametrize("kind", ["a constant", "a broadcast", "a scale", "a border", "weights", "negative"])
def test_shapes_that_no_memory_holds(kind, tmp_path):
    with pytest.raises(DataError, match=r"a\.onnx") as caught:
        FaceDetector(absurd(tmp_path / "a.onnx", kind))
    assert "\n" not in caught.value.message


def test_a_custom_operator_is_one_line(tmp_path):
    nodes = [helper.make_node("MyDetector", ["input"], ["out"], domain="my.company")]
    with pytest.raises(DataError, match=r"a\.onnx: not a usable ONNX model") as caught:
        FaceDetector(save(tmp_path / "a.onnx", nodes, ["out"], size=(32, 32)))
    assert "\n" not in caught.value.message


def test_a_broken_graph_ends_the_command_without_traceback(folder):
    path = external(folder / "a.onnx", "../secret.bin")
    command = [sys.executable, "-m", "facetrain", "detect", str(folder / "a.png"), "--weights", str(path)]
    (folder / "a.png").write_bytes(b"x")
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode in (1, 2)
    assert "outside its own folder" in done.stderr
    assert "Traceback" not in done.stderr
