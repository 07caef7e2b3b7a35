import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from facetrain.cli.app import run_cli
from facetrain.core.boxes import pad_image
from facetrain.core.errors import DataError, DeviceError
from facetrain.core.images import read_image
from facetrain.detect.detector import FaceDetector
from facetrain.detect.onnx_detector import OnnxDetector


def save_graph(path, inputs, outputs, nodes):
    infos = [
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in group] for group in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "test", *infos)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def same(a, b):
    for one, other in ((a.boxes, b.boxes), (a.scores, b.scores), (a.landmarks, b.landmarks)):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("variant", ["n", "s"])
def test_released_files_reproduce_the_golden_detections(shared, golden, variant):
    detector = OnnxDetector(shared / f"reference/yunet/yunet_{variant}_dynamic.onnx", score=0.5, nms=0.45)
    for name, expected in golden["detections"][variant].items():
        faces = detector.detect_batch([read_image(shared / "reference/images" / name)])[0]
        assert len(faces) == len(expected), name
        np.testing.assert_allclose(faces.scores, [face["score"] for face in expected], atol=1e-4)
        np.testing.assert_allclose(faces.boxes, np.reshape([f["box"] for f in expected], (-1, 4)), atol=0.01)
        points = np.reshape([face["landmarks"] for face in expected], (-1, 5, 2))
        np.testing.assert_allclose(faces.landmarks, points, atol=0.01)


def test_spots_are_found_where_they_are(spots, spot_image):
    faces = OnnxDetector(spots).detect_batch([spot_image(100, 70, (8, 16), (88, 40))])[0]
    np.testing.assert_array_equal(faces.boxes, [[4, 12, 12, 20], [84, 36, 92, 44]])
    np.testing.assert_allclose(faces.scores, 1)
    np.testing.assert_array_equal(faces.landmarks, np.float32([[[8, 16]] * 5, [[88, 40]] * 5]))


def test_a_batch_equals_single_images(spots, spot_image):
    images = [spot_image(64, 32, (0, 0)), spot_image(9, 9), spot_image(200, 31, (8, 8), (160, 16))]
    detector = OnnxDetector(spots)
    for joint, image in zip(detector.detect_batch(images), images, strict=True):
        same(joint, detector.detect_batch([image])[0])
    assert detector.detect_batch([]) == []


@pytest.mark.parametrize(("more_right", "more_below"), [(1, 0), (0, 1), (28, 7), (60, 131)])
def test_black_to_the_right_and_below_changes_nothing(spots, spot_image, more_right, more_below):
    image = spot_image(100, 57, (0, 0), (64, 48))
    detector = OnnxDetector(spots)
    padded = pad_image(image, 100 + more_right, 57 + more_below)
    same(*detector.detect_batch([image, padded]))


def test_black_up_to_the_next_multiple_changes_nothing_with_released_weights(shared):
    image = read_image(shared / "reference/images/kids.jpg")  # 440x293
    detector = OnnxDetector(shared / "reference/yunet/yunet_n_dynamic.onnx")
    same(*detector.detect_batch([image, pad_image(image, 447, 301)]))


def test_a_fixed_size_is_met_and_the_faces_come_back(make_spots, spot_image):
    detector = OnnxDetector(make_spots(size=(64, 96)))
    # 128x100 becomes 64x50 in the corner of 64x96, so that a 16-pixel square fills a cell of 8
    faces = detector.detect_batch([spot_image(128, 100, (32, 64), side=16)])[0]
    np.testing.assert_allclose(faces.boxes, [[24, 56, 40, 72]], atol=1e-4)
    np.testing.assert_allclose(faces.landmarks[0, 0], [32, 64], atol=1e-4)


def test_a_fixed_size_gives_each_axis_its_own_factor(make_spots):
    detector = OnnxDetector(make_spots(size=(64, 64)), score=0.9)
    image = np.zeros((61, 100, 3), np.uint8)
    image[..., 0] = 255  # becomes 64x39: 61 * 64 / 100 is 39.04
    boxes = detector.detect_batch([image])[0].boxes
    small = boxes[np.isclose(boxes[:, 2] - boxes[:, 0], 8 * 100 / 64)]
    np.testing.assert_allclose(small[:, 3] - small[:, 1], 8 * 61 / 39, rtol=1e-5)
    assert small[:, 1].max() + 4 * 61 / 39 == pytest.approx(24 * 61 / 39)  # the row at 32 is bright for 7 of 8 lines


def test_fixed_and_flexible_released_files_agree(shared):
    image = pad_image(read_image(shared / "reference/images/portrait.jpg"), 320, 320)
    folder = shared / "reference/yunet"
    fixed, flexible = (
        OnnxDetector(folder / f"yunet_s_{kind}.onnx").detect_batch([image])[0] for kind in ("320_320", "dynamic")
    )
    same(fixed, flexible)


def test_suppression_and_the_limit_of_candidates(make_spots, spot_image):
    # boxes three cells wide overlap their neighbours by an IoU of one half
    path = make_spots(strides=(8,), box_size=float(np.log(3)))
    image = spot_image(64, 64, (8, 8), (16, 8), (48, 48))
    assert len(OnnxDetector(path, nms=0.45).detect_batch([image])[0]) == 2
    assert len(OnnxDetector(path, nms=0.55).detect_batch([image])[0]) == 3
    assert len(OnnxDetector(path, nms=0.55, max_candidates=1).detect_batch([image])[0]) == 1


def test_endless_boxes_are_no_faces(make_spots, spot_image):
    assert len(OnnxDetector(make_spots(box_size=1000.0)).detect_batch([spot_image(64, 64, (8, 8))])[0]) == 0


@pytest.mark.parametrize("strides", [(8,), (4, 8), (16, 32, 64)])
def test_other_strides(make_spots, spot_image, strides):
    side = strides[0]
    faces = OnnxDetector(make_spots(strides=strides)).detect_batch([spot_image(150, 90, (64, 64), side=side)])[0]
    np.testing.assert_array_equal(faces.boxes, [[64 - side / 2, 64 - side / 2, 64 + side / 2, 64 + side / 2]])


def test_no_landmarks_and_names_that_say_nothing(make_spots, spot_image):
    path = make_spots(landmarks=0, rename=lambda name: f"out{sum(name.encode())}")
    faces = OnnxDetector(path).detect_batch([spot_image(64, 64, (24, 40))])[0]
    np.testing.assert_array_equal(faces.boxes, [[20, 36, 28, 44]])
    assert faces.landmarks.shape == (1, 0, 2)


def test_half_precision_input(make_spots, spot_image):
    path = make_spots(input_type=TensorProto.FLOAT16)
    assert len(OnnxDetector(path).detect_batch([spot_image(64, 64, (24, 40))])[0]) == 1


@pytest.mark.parametrize("content", [b"not a model\n" * 20, b"\x08\x08\x12\x04test", b"\x00" * 200])
def test_damaged_files_are_one_line(tmp_path, content):
    path = tmp_path / "damaged.onnx"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        OnnxDetector(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message


def test_a_cut_file_is_refused(spots, tmp_path):
    path = tmp_path / "cut.onnx"
    path.write_bytes(spots.read_bytes()[:700])
    with pytest.raises(DataError, match=r"cut\.onnx"):
        OnnxDetector(path)


def test_unknown_outputs_are_listed_with_the_known_families(tmp_path):
    path = save_graph(
        tmp_path / "other.onnx",
        [("input", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [("heat", TensorProto.FLOAT, None)],
        [helper.make_node("AveragePool", ["input"], ["heat"], kernel_shape=[4, 4], strides=[4, 4])],
    )
    with pytest.raises(DataError, match=r"heat \[1, 3, 64, 64\].*no known detector family") as caught:
        OnnxDetector(path)
    assert "yunet" in caught.value.hint


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([("a", TensorProto.FLOAT, [1, 3, 8, 8]), ("b", TensorProto.FLOAT, [1])], "not one image"),
        ([("a", TensorProto.FLOAT, [1, 4, "h", "w"])], "not one image"),
        ([("a", TensorProto.FLOAT, [1, 3])], "not one image"),
        ([("a", TensorProto.INT32, [1, 3, "h", "w"])], "not one image"),
        ([("a", TensorProto.FLOAT, [4, 3, "h", "w"])], "exactly 4 images"),
        ([("a", TensorProto.FLOAT, [1, 3, 1 << 20, 1 << 20])], "no memory holds"),
    ],
)
def test_graphs_that_take_something_else(tmp_path, inputs, said):
    name, kind, _ = inputs[0]
    path = save_graph(
        tmp_path / "in.onnx", inputs, [("out", kind, None)], [helper.make_node("Identity", [name], ["out"])]
    )
    with pytest.raises(DataError, match=said):
        OnnxDetector(path)


def test_devices_that_are_not_there(spots):
    with pytest.raises(DeviceError, match="mps"):
        OnnxDetector(spots, device="mps")
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(DeviceError, match="no CUDA"):
            OnnxDetector(spots, device="cuda:0")


def test_a_decoded_file_says_its_own_threshold(tmp_path, monkeypatch, capfd):
    """`export-onnx --decoded --score 0.6` lets nothing below 0.6 through, whatever `detect` and `eval` are asked."""
    monkeypatch.chdir(tmp_path)
    folder = Path("set/val")
    (folder / "images").mkdir(parents=True)
    cv2.imwrite(str(folder / "images" / "a.png"), np.full((64, 64, 3), 90, np.uint8))
    (folder / "labelv2.txt").write_text("# a.png 64 64\n10 10 40 50\n")
    assert run_cli(["export-onnx", "--decoded", "--score", "0.6", "-o", "d.onnx"]) == 0
    capfd.readouterr()
    assert FaceDetector("d.onnx").own_threshold == pytest.approx(0.6)
    assert run_cli(["eval", "--data", "set", "-w", "d.onnx", "--score", "0.02"]) == 2
    _, err = capfd.readouterr()
    assert "d.onnx: the file itself drops faces that score less than 0.6" in err
    assert "with --score 0.6" in err
    assert run_cli(["eval", "--data", "set", "-w", "d.onnx", "--score", "0.6"]) == 0
    capfd.readouterr()
    assert run_cli(["detect", "set", "-w", "d.onnx", "--score", "0.1"]) == 0
    assert "at score 0.6, below which the file itself drops faces, not at 0.1" in capfd.readouterr().out
    assert run_cli(["detect", "set", "-w", "d.onnx", "--score", "0.1", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["score"] == pytest.approx(0.6)
