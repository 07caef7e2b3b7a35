"""The check after an export finds what is wrong with a file, whatever it is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from facetrain.config.schema import ModelConfig
from facetrain.core.errors import InputError
from facetrain.core.faces import Faces
from facetrain.detect.bundled import bundled_weights
from facetrain.export.images import check_images
from facetrain.export.network.fold import fold
from facetrain.export.onnx.check import Check, check_lower, check_onnx, compare_faces, failed
from facetrain.export.onnx.model import onnx_model, write_onnx
from facetrain.export.onnx.request import Form, OnnxOptions, Quantised, check_places
from facetrain.model.weights import load_model
from facetrain.model.yunet import YuNet, build


@pytest.fixture(scope="module")
def model() -> YuNet:
    return load_model(bundled_weights("yunet_n", ".pt"))


def checks_of(
    model: YuNet, path: Path, options: OnnxOptions, damage: Callable[[onnx.ModelProto], object] = lambda file: None
) -> dict[str, Check]:
    """Export, damage, check on a photograph and a drawn image; the findings by name."""
    file = onnx_model(fold(model), {}, options)
    damage(file)
    onnx.save(file, path)
    return {check.name: check for check in check_onnx(path, model, options, check_images()[:2])}


@pytest.mark.parametrize(
    "options",
    [
        OnnxOptions(),
        OnnxOptions(opset=11),
        OnnxOptions(opset=17, size=(320, 256)),
        OnnxOptions(batch=1),
        OnnxOptions(form="decoded"),
        OnnxOptions(form="decoded", size=(320, 320), opset=11, score=0.3, batch=2),
        OnnxOptions(form="rows", size=(320, 320)),
        OnnxOptions(form="rows", size=(320, 256), opset=11),
    ],
    ids=str,
)
def test_every_form_passes(model: YuNet, tmp_path: Path, options: OnnxOptions) -> None:
    checks = checks_of(model, tmp_path / "model.onnx", options)
    assert not failed(checks.values())
    made = [check for check in checks.values() if check.ok]
    assert len(made) >= 2
    if options.form == "raw":
        assert checks["cv2.FaceDetectorYN, pixels"].ok
        assert checks["cls, obj against torch"].largest is not None


def without_sigmoid(file: onnx.ModelProto) -> None:
    """Logits go out: OpenCV would show every face with score 1."""
    for node in file.graph.node:
        if node.op_type == "Sigmoid":
            node.op_type = "Identity"


def one_weight_changed(file: onnx.ModelProto) -> None:
    weight = file.graph.initializer[0]
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] += 0.01
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))


def colours_swapped(file: onnx.ModelProto) -> None:
    weight = file.graph.initializer[0]  # the stem's
    swapped = numpy_helper.to_array(weight)[:, ::-1].copy()
    weight.CopyFrom(numpy_helper.from_array(swapped, weight.name))


def outputs_reversed(file: onnx.ModelProto) -> None:
    outputs = list(file.graph.output)[::-1]
    del file.graph.output[:]
    file.graph.output.extend(outputs)


def with_a_shape_node(file: onnx.ModelProto) -> None:
    file.graph.node.append(helper.make_node("Shape", ["input"], ["unused"]))


def batch_of_one_baked_in(file: onnx.ModelProto) -> None:
    for weight in file.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.int64 and values.shape == (3,):
            weight.CopyFrom(numpy_helper.from_array(np.array([1, -1, values[2]]), weight.name))


DAMAGE = {
    "no sigmoid": (without_sigmoid, "cls, obj against torch"),
    "one weight": (one_weight_changed, "bbox, kps against torch"),
    "colours": (colours_swapped, "bbox, kps against torch"),
    "order": (outputs_reversed, "names and nodes"),
    "shape node": (with_a_shape_node, "names and nodes"),
    "batch": (batch_of_one_baked_in, "cls, obj against torch"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found(model: YuNet, tmp_path: Path, kind: str) -> None:
    damage, where = DAMAGE[kind]
    checks = checks_of(model, tmp_path / "model.onnx", OnnxOptions(), damage)
    assert checks[where].ok is False, checks


def halved_scores(file: onnx.ModelProto) -> None:
    """Found by nothing but a comparison of scores: boxes and their number stay."""
    for node in file.graph.node:
        if node.op_type == "Mul" and all(name.startswith("reshape") for name in node.input):
            node.input[1] = node.input[0]


@pytest.mark.parametrize("form", ["decoded", "rows"])
def test_wrong_scores_of_a_decoded_file_are_found(model: YuNet, tmp_path: Path, form: Form) -> None:
    options = OnnxOptions(form=form, size=(320, 320), score=0.3)
    checks = checks_of(model, tmp_path / "model.onnx", options, halved_scores)
    assert checks["faces against torch, pixels"].ok is False


def some_faces(*rows: tuple[float, float]) -> Faces:
    """Faces of 10 pixels at x with a score."""
    x, scores = np.array(rows, np.float32).reshape(-1, 2).T
    boxes = np.stack([x, 0 * x, x + 10, 0 * x + 10], 1)
    return Faces(boxes, scores, boxes.reshape(-1, 2, 2))


def test_faces_are_compared_as_sets() -> None:
    ours, theirs = some_faces((0, 0.9), (40, 0.8)), some_faces((40.25, 0.8), (0, 0.875))
    assert compare_faces(ours, theirs, lambda score: False) == (pytest.approx(0.025), pytest.approx(0.25))
    lacking = some_faces((0, 0.9))
    infinite = (float("inf"), float("inf"))
    assert compare_faces(ours, lacking, lambda score: False) == infinite
    assert compare_faces(lacking, ours, lambda score: False) == infinite
    assert compare_faces(ours, lacking, lambda score: score < 0.85) == (0, 0)
    assert compare_faces(lacking, ours, lambda score: score < 0.85) == (0, 0)
    assert compare_faces(some_faces(), some_faces(), lambda score: False) == (0, 0)


def test_faces_of_huge_boxes_are_compared_by_their_size() -> None:
    """A network without training says sides of thousands of pixels, of which float32 knows fewer digits."""
    wide = Faces(np.array([[-2e4, -2e4, 3e4, 3e4]], np.float32), np.array([0.9], np.float32), np.zeros((1, 0, 2), "f"))
    moved = Faces(wide.boxes + 0.45, wide.scores, wide.landmarks)
    assert compare_faces(wide, moved, lambda score: False)[1] < 0.05
    assert compare_faces(wide, Faces(wide.boxes + 30, wide.scores, wide.landmarks), lambda score: False)[1] > 1


def test_a_lower_precision_where_nobody_finds_a_face_is_no_failure(tmp_path: Path) -> None:
    model = build(ModelConfig(objectness_bias=-20.0), seed=0).eval()
    path = tmp_path / "net.onnx"
    write_onnx(fold(model), path)
    blank = np.zeros((64, 64, 3), np.uint8)
    *_, faces = check_lower(path, path, model, OnnxOptions(), [blank])
    assert faces.ok is None
    assert "neither finds a face" in faces.note


def test_the_drawn_set_calibrates_and_judges(tmp_path: Path) -> None:
    quantised = Quantised("int8", calibrate=Path("sample"), data=Path("sample"))
    check_places("yunet_n", tmp_path / "net.onnx", OnnxOptions(), quantised, None)
    with pytest.raises(InputError, match=r"`calibrate` nowhere") as caught:
        check_places(
            "yunet_n", tmp_path / "net.onnx", OnnxOptions(), replace(quantised, calibrate=Path("nowhere")), None
        )
    assert "`sample`" in str(caught.value.hint)
