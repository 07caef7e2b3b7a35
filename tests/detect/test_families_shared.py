"""Real files of every family that could be found, held against the plain loops and against YuNet."""

import cv2
import numpy as np
import onnxruntime
import pytest
from oracles import detector_families as oracle

from facetrain import FaceDetector
from facetrain.core.boxes import box_iou
from facetrain.core.images import read_image
from facetrain.eval.evaluate import Source, evaluate_model
from facetrain.eval.protocol import EvalProtocol

pytestmark = pytest.mark.slow

# file -> kind, size that it fixes, outputs in the order that the kind's description has
FILES = {
    "yunet_2026may": ("yunet", None, [f"{k}_{s}" for k in ("cls", "obj", "bbox", "kps") for s in (8, 16, 32)]),
    "scrfd_500m_dynamic": ("scrfd", None, ["443", "468", "493", "446", "471", "496", "449", "474", "499"]),
    "scrfd_500m_6out_640": ("scrfd_plain", (640, 640), [f"{k}_{s}" for k in ("score", "bbox") for s in (8, 16, 32)]),
    "yolov5n_0.5_raw_640": ("yolo5_raw", (640, 640), ["stride_8", "stride_16", "stride_32"]),
    "yolov5n_0.5_decoded_640": ("yolo5_decoded", (640, 640), ["output"]),
    "yolov8_lite_t_640": ("yolov8_raw", (640, 640), ["output0", "884", "892"]),
    "retinaface_mobile025_dynamic": ("retinaface", None, ["loc", "conf", "landms"]),
    "retinaface_mobile025_cat_640": ("retinaface_joined", (640, 640), ["output0"]),
    "ultralight_rfb_320": ("ultralight_decoded", (320, 240), ["boxes", "scores"]),
    "ultralight_rfb_320_raw": ("ultralight_raw", (320, 240), ["boxes", "scores"]),
    "ultralight_slim_320": ("ultralight_decoded", (320, 240), ["boxes", "scores"]),
    "blazeface_back_256": ("blazeface", (256, 256), ["raw_boxes", "raw_scores"]),
}


@pytest.fixture(scope="module")
def model_of(shared):
    """The path of a file by its name."""
    return lambda name: shared / "reference/compare" / f"{name}.onnx"


def fed(kind, image, size):
    """An image as that family wants it, (1, 3, h, w), and the factors new / old: its own account of both."""
    value, order, multiple = oracle.IMAGES[oracle.KINDS[kind]]
    height, width = image.shape[:2]
    if size is None:
        w, h = -(-width // multiple) * multiple, -(-height // multiple) * multiple
        new = (width, height)
    else:
        w, h = size
        limit = min(w / width, h / height)
        new = (w, int(height * w / width)) if limit == w / width else (int(width * h / height), h)
        image = cv2.resize(image, new, interpolation=cv2.INTER_LINEAR)
    black = np.zeros((h, w, 3))
    black[: new[1], : new[0]] = image
    blob = value(black if order == "bgr" else black[..., ::-1]).transpose(2, 0, 1)[None].astype(np.float32)
    return blob, (new[0] / width, new[1] / height)


def faces_by_loop(path, kind, names, image, size, score, nms):
    """What `detect` should give, without facetrain."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    blob, (fx, fy) = fed(kind, image, size)
    outputs = session.run(names, {session.get_inputs()[0].name: blob})
    faces = oracle.decode(kind, oracle.table_of(kind, outputs), blob.shape[3], blob.shape[2])
    return [
        (score, (x1 / fx, y1 / fy, x2 / fx, y2 / fy), [(x / fx, y / fy) for x, y in points])
        for score, (x1, y1, x2, y2), points in oracle.best_faces(faces, score, nms)
    ]


def test_every_file_has_a_row(shared):
    assert sorted(path.stem for path in (shared / "reference/compare").glob("*.onnx")) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_files_are_recognised(model_of, name):
    kind, size, _ = FILES[name]
    detector = FaceDetector(model_of(name), threads=1)
    assert (detector.family, detector.static_shape) == (oracle.KINDS[kind], size)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("photo", ["group", "portrait"])
def test_detections_equal_the_loop(model_of, shared, name, photo):
    kind, size, names = FILES[name]
    image = read_image(shared / f"reference/images/{photo}.jpg")
    expected = faces_by_loop(model_of(name), kind, names, image, size, 0.3, 0.45)
    found = FaceDetector(model_of(name), score=0.3, threads=1).detect(image)
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.scores, [face[0] for face in expected], atol=1e-4)
    np.testing.assert_allclose(found.boxes, [face[1] for face in expected], atol=0.05)
    points = np.reshape([face[2] for face in expected], (len(expected), oracle.POINTS[kind], 2))
    np.testing.assert_allclose(found.landmarks, points, atol=0.05)


# BlazeFace draws tighter boxes and makes do with 256 pixels
@pytest.mark.parametrize(("name", "agreement"), [(name, 0.65 if "blaze" in name else 0.8) for name in FILES])
def test_files_find_the_faces_that_yunet_finds(model_of, shared, name, agreement):
    yunet = FaceDetector(shared / "reference/yunet/yunet_n_dynamic.onnx", threads=1)
    other = FaceDetector(model_of(name), threads=1)
    for image, faces in (("family", 5), ("group", 10), ("portrait", 1)):
        path = shared / f"reference/images/{image}.jpg"
        one, two = yunet.detect(path), other.detect(path)
        assert len(one) == faces
        assert faces <= len(two) <= faces + 1
        overlap = box_iou(one.boxes, two.boxes).max(1)
        assert overlap.min() > 0.4
        assert overlap.mean() > agreement
        if two.landmarks.shape[1] != 5:
            continue
        partner = box_iou(one.boxes, two.boxes).argmax(1)
        sides = (one.boxes[:, 2:] - one.boxes[:, :2]).mean(1)
        apart = np.linalg.norm(one.landmarks - two.landmarks[partner], axis=2).mean(1) / sides
        assert apart.max() < 0.1  # of the face's side: the same points, in the same order


# AP easy, medium, hard on every tenth of the 400 images at score 0.02, NMS 0.45, of detections made by the loops
AP_OF_40 = {
    "blazeface_back_256": (0.664339, 0.542221, 0.337954),
    "yolov8_lite_t_640": (0.952877, 0.892654, 0.836500),
    "yolov5n_0.5_raw_640": (0.962612, 0.892496, 0.837711),
    "retinaface_mobile025_cat_640": (0.955896, 0.874382, 0.738315),
    "scrfd_500m_6out_640": (0.977006, 0.918490, 0.824336),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", AP_OF_40)
def test_ap_on_forty_images(model_of, shared, name, tmp_path):
    forty = some_images(shared, tmp_path)
    result = evaluate_model(
        Source(str(model_of(name))),
        forty,
        EvalProtocol(),
        widerface=True,
        ground_truth=shared / "widerface/labelv2/val/gt",
        present_only=True,
    )
    assert len(result.images) == 40
    assert list(result.ap.values()) == pytest.approx(AP_OF_40[name], abs=0.003)


def some_images(shared, folder):
    """Every tenth of the validation images, linked into a folder of WIDER FACE's form."""
    images = shared / "widerface/WIDER_val/images"
    for path in sorted(images.rglob("*.jpg"))[::10]:
        link = folder / "WIDER_val/images" / path.relative_to(images)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return folder
