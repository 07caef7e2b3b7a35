"""Which family a graph is taken for: by metadata, by its outputs, or because the caller says so."""

from importlib import import_module
from itertools import combinations, product

import numpy as np
import onnx
import pytest
from graphs import constant_graph, save
from onnx import TensorProto, helper
from oracles import detector_families as oracle

from facetrain import FaceDetector
from facetrain.cli.app import run_cli
from facetrain.core.errors import DataError, UsageError
from facetrain.core.images import write_image
from facetrain.detect.recognise import ORDER, family_names, recognise

KINDS = list(oracle.KINDS)
SIZES = [(256, 256), (640, 640), (320, 240), (160, 120), (192, 320), (64, 64)]


def quiet_outputs(kind, width, height):
    """The outputs of a network that sees no face."""
    rows = 0 if kind == "decoded" else len(oracle.priors(kind, width, height))
    table = np.tile(np.float32(oracle.nothing(kind)), (rows, 1))
    return oracle.outputs_of(kind, table, width, height)


def modules():
    return {name: import_module(f"facetrain.detect.families.{name}") for name in family_names()}


def test_every_family_has_its_place_and_its_name():
    assert sorted(ORDER) == family_names()
    assert {name: module.NAME for name, module in modules().items()} == {name: name for name in family_names()}
    assert set(oracle.KINDS.values()) == set(family_names())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_a_family_knows_its_own_and_no_other_does(kind, size):
    outputs = quiet_outputs(kind, *size)
    metadata = oracle.METADATA.get(kind, {})
    known = [name for name, module in modules().items() if module.recognise(outputs, *size, metadata) is not None]
    assert known == [oracle.KINDS[kind]]
    assert recognise(outputs, *size, metadata).name == oracle.KINDS[kind]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in oracle.METADATA])
def test_names_say_nothing_and_the_batch_axis_may_be_missing(kind):
    outputs = quiet_outputs(kind, 320, 192)
    table = np.random.default_rng(1).normal(0, 1, (len(oracle.priors(kind, 320, 192)), len(oracle.nothing(kind))))
    if kind.startswith(("ultralight", "retinaface")):  # what their outputs are is told by their values too
        table = np.tile(np.float32(oracle.nothing(kind)), (len(table), 1))
    outputs = oracle.outputs_of(kind, table, 320, 192)
    flat = {str(443 + k): value[0] for k, value in enumerate(outputs.values())}
    threshold = -10.0 if "yolo" not in kind and kind != "blazeface" else 0.3
    results = []
    for given in (outputs, flat):
        found = recognise(given, 320, 192, {})
        assert found.name == oracle.KINDS[kind]
        with np.errstate(invalid="ignore"):
            results.append(found.family.faces(given, 320, 192, threshold))
    np.testing.assert_array_equal(results[0].boxes, results[1].boxes)
    np.testing.assert_array_equal(results[0].landmarks, results[1].landmarks)


@pytest.mark.parametrize(
    "kind", ["scrfd", "scrfd_5", "retinaface", "yolo5_raw", "yolov8_raw", "yunet_2021", "blazeface"]
)
def test_the_order_of_the_outputs_does_not_matter(kind):
    outputs = quiet_outputs(kind, 320, 192)
    backwards = dict(reversed(outputs.items()))
    assert recognise(backwards, 320, 192, {}) == recognise(outputs, 320, 192, {})


def test_boxes_and_two_classes_are_told_apart_by_the_number_of_priors():
    kinds = ["ultralight_raw", "retinaface_plain", "faceboxes", "eresfd"]
    same = []
    for width, height in product(range(32, 257, 32), repeat=2):
        counts = {kind: len(oracle.priors(kind, width, height)) for kind in kinds}
        same += [(width, height, a, b) for a, b in combinations(kinds, 2) if counts[a] == counts[b]]
    assert same == []


def test_the_first_yunet_counts_whole_cells_only():
    # 160 x 120: 20 x 15, 10 x 7, 5 x 3, 2 x 1 cells
    priors = 20 * 15 * 3 + 10 * 7 * 2 + 5 * 3 * 2 + 2 * 1 * 3
    loc = np.zeros((priors, 14), np.float32)
    conf, iou = np.tile(np.float32([1, 0]), (priors, 1)), np.ones((priors, 1), np.float32)
    conf[900 + 2 * 13] = [0.5, 0.5]  # stride 16, row 1, column 3, side 32
    outputs = {"loc": loc, "conf": conf, "iou": iou}
    faces = recognise(outputs, 160, 120, {}).family.faces(outputs, 160, 120, 0.6)
    np.testing.assert_allclose(faces.boxes, [[40, 8, 72, 40]])
    assert faces.scores == pytest.approx(0.5**0.5)


def test_classes_before_the_softmax():
    for kind in ("retinaface", "faceboxes", "eresfd", "ultralight_raw", "yunet_2021"):
        at = 50
        face = (0.8, *oracle.read(kind, oracle.nothing(kind), oracle.priors(kind, 320, 192)[at], 320, 192)[1:])
        after = oracle.encode(kind, 320, 192, face, at)
        before = {**after, "conf": np.log(np.clip(after["conf"], 1e-6, 1)) + np.float32(3)}
        one, two = (recognise(o, 320, 192, {}).family.faces(o, 320, 192, 0.5) for o in (after, before))
        assert len(one) == 1
        np.testing.assert_allclose(two.scores, one.scores, rtol=1e-4)
        np.testing.assert_array_equal(two.boxes, one.boxes)


def test_metadata_comes_first():
    # at 16 x 64 FaceBoxes and RetinaFace have 44 priors each
    outputs = quiet_outputs("retinaface_plain", 16, 64)
    for asked, found in (("retinaface", "retinaface"), ("faceboxes", "faceboxes"), ("", "faceboxes")):
        assert recognise(outputs, 16, 64, {"family": asked}).name == found
        assert recognise(outputs, 16, 64, {}, family=asked or None).name == found
    # what does not fit, or is no family, leaves the matter to the rules
    for asked in ("scrfd", "no such family", "../onnx", "__init__"):
        assert recognise(outputs, 16, 64, {"family": asked}).name == "faceboxes"


def test_decoded_forms_need_their_metadata():
    for kind in ("decoded", "rows"):
        assert recognise(quiet_outputs(kind, 64, 64), 64, 64, {}) is None
        wrong = {**oracle.METADATA[kind], "form": "raw"}
        assert recognise(quiet_outputs(kind, 64, 64), 64, 64, wrong) is None
    fewer = {"output": quiet_outputs("rows", 64, 64)["output"][:, 1:]}
    assert recognise(fewer, 64, 64, oracle.METADATA["rows"]) is None


@pytest.mark.parametrize("strides", ["", "[]", "[0, 8]", "[8, 999999999999]", "[4096]"])
def test_strides_that_no_memory_holds(strides):
    assert recognise(quiet_outputs("decoded", 64, 64), 64, 64, {"form": "decoded", "strides": strides}) is None
    named = {f"{kind}_{1 << 40}": np.zeros((1, 1, n), np.float32) for kind, n in (("cls", 1), ("obj", 1), ("bbox", 4))}
    assert recognise(named, 64, 64, {"strides": f"[{1 << 40}]"}) is None


def save_quiet(path, kind, width=320, height=192):
    return constant_graph(path, quiet_outputs(kind, width, height), (width, height), oracle.METADATA.get(kind))


def test_a_family_can_be_forced(tmp_path):
    path = save_quiet(tmp_path / "faceboxes.onnx", "retinaface")  # a file's name says nothing
    assert FaceDetector(path).family == "retinaface"
    assert FaceDetector(path, family="retinaface").family == "retinaface"
    with pytest.raises(DataError, match=r"loc \[1, 2520, 4\].* not those of the family 'faceboxes'") as caught:
        FaceDetector(path, family="faceboxes")
    assert "retinaface" in caught.value.hint


def test_the_commands_take_a_family(tmp_path, capfd):
    path, image = save_quiet(tmp_path / "a.onnx", "retinaface"), tmp_path / "a.png"
    write_image(image, np.zeros((40, 60, 3), np.uint8))
    common = ["--weights", str(path), "--family"]
    detect = ["detect", str(image), "--output", str(tmp_path / "out"), *common]
    assert run_cli([*detect, "retinaface"]) == 0
    assert run_cli([*detect, "scrfd"]) == 1
    assert "not those of the family 'scrfd'" in capfd.readouterr().err
    assert run_cli([*detect, "scrdf"]) == 2
    assert "did you mean 'scrfd'" in capfd.readouterr().err
    (tmp_path / "val/images").mkdir(parents=True)
    write_image(tmp_path / "val/images/b.png", np.zeros((40, 60, 3), np.uint8))
    (tmp_path / "val/labelv2.txt").write_text("# b.png 60 40\n10 10 30 30\n")
    measure = ["eval", "--data", str(tmp_path), *common]
    assert run_cli([*measure, "retinaface"]) == 0
    assert run_cli([*measure, "scrfd"]) == 1
    assert run_cli(["eval", "--data", str(tmp_path), "--predictions", str(tmp_path), "--family", "scrfd"]) == 2
    assert "exclude each other" in capfd.readouterr().err


def test_an_unknown_family_lists_those_there_are(tmp_path):
    path = save_quiet(tmp_path / "a.onnx", "scrfd")
    with pytest.raises(UsageError, match="scrdf") as caught:
        FaceDetector(path, family="scrdf")
    assert "did you mean 'scrfd'" in caught.value.hint
    assert all(name in caught.value.hint for name in family_names())
    for name in ("", "priors", "__init__", "../onnx"):
        with pytest.raises(UsageError):
            FaceDetector(path, family=name)


def test_a_checkpoint_is_a_yunet(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(b"x")
    with pytest.raises(UsageError, match="checkpoint is a yunet"):
        FaceDetector(path, family="scrfd")


def test_an_unknown_graph_lists_its_outputs_and_the_families(tmp_path):
    outputs = {"probabilities": np.zeros((1, 1000), np.float32)}
    with pytest.raises(DataError, match=r"probabilities \[1, 1000\].*fit no known detector family") as caught:
        FaceDetector(constant_graph(tmp_path / "classifier.onnx", outputs, (224, 224)))
    assert all(name in caught.value.hint for name in family_names())
    assert "`family`" in caught.value.hint


def test_suppression_inside_the_file_is_told(tmp_path):
    path = constant_graph(tmp_path / "a.onnx", {"selected": np.zeros((1, 0, 16), np.float32)}, (128, 128))
    with pytest.raises(DataError, match="no known detector family") as caught:
        FaceDetector(path)
    assert "suppression is inside" in caught.value.hint
    assert "BlazeFace" in caught.value.hint
    more = [helper.make_tensor_value_info("threshold", TensorProto.FLOAT, [1])]
    nodes = [helper.make_node("Identity", ["threshold"], ["selected"])]
    with pytest.raises(DataError, match="not one image") as caught:
        FaceDetector(save(tmp_path / "b.onnx", nodes, ["selected"], size=(128, 128), inputs=more))
    assert "suppression inside" in caught.value.hint


def test_declared_shapes_may_lie(tmp_path):
    path = save_quiet(tmp_path / "a.onnx", "scrfd")
    model = onnx.load(path)
    for output in model.graph.output:
        for size in (77, 3, 5):
            output.type.tensor_type.shape.dim.add().dim_value = size
    path.write_bytes(model.SerializeToString())
    assert FaceDetector(path).family == "scrfd"


def test_a_flexible_file_that_runs_at_640_alone(tmp_path):
    """Its constants are of that size: adding them to a map of the image fails at any other."""
    outputs = quiet_outputs("retinaface_plain", 640, 640)
    side = helper.make_node("AveragePool", ["input"], ["small"], kernel_shape=[32, 32], strides=[32, 32])
    nodes = [
        side,
        helper.make_node("Add", ["small", "of_640"], ["sum"]),
        helper.make_node("ReduceMean", ["sum"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "mean"], ["zero"]),
    ]
    constants = [onnx.numpy_helper.from_array(np.zeros((1, 3, 20, 20), np.float32), "of_640")]
    for name, value in outputs.items():
        constants.append(onnx.numpy_helper.from_array(value, f"in_{name}"))
        nodes.append(helper.make_node("Add", ["zero", f"in_{name}"], [name]))
    detector = FaceDetector(save(tmp_path / "a.onnx", nodes, list(outputs), constants))
    assert (detector.family, detector.static_shape) == ("retinaface", None)
    assert len(detector.detect(np.zeros((630, 620, 3), np.uint8))) == 0
    with pytest.raises(DataError, match="fails on an image of 320x320"):
        detector.detect(np.zeros((320, 320, 3), np.uint8))
