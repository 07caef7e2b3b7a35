"""Every family's decoding and its images, against the plain loops of oracles/detector_families.py."""

import numpy as np
import pytest
from graphs import centre_graph, constant_graph
from oracles import detector_families as oracle

from facetrain import FaceDetector
from facetrain.detect.recognise import recognise

WIDTH, HEIGHT = 320, 192
KINDS = list(oracle.KINDS)


def random_numbers(kind, width, height, seed=5):
    """Numbers (P, C) such as a network might give: scores spread over 0 to 1, offsets small."""
    random = np.random.default_rng(seed)
    everyone = len(oracle.priors(kind, width, height))
    table = random.normal(0, 1, (everyone, sum(columns for _, columns in oracle.layout(kind))))
    start = 0
    for name, columns in oracle.layout(kind):
        if name in ("cls", "obj", "score", "heat", "iou"):
            table[:, start] = random.random(everyone)
        if name == "conf":
            table[:, start + 1] = random.random(everyone)
            table[:, start] = 1 - table[:, start + 1]
        start += columns
    scores = {"decoded": [5], "rows": [4], "yolo5_decoded": [4, 15], "yolo5_decoded_p6": [4, 15], "yolov8_decoded": [4]}
    for column in scores.get(kind, []):
        table[:, column] = random.random(everyone)
    if kind == "ultralight_decoded":
        table[:, :4] = np.sort(random.random((everyone, 2, 2)), axis=1).reshape(everyone, 4)
    return table.astype(np.float32)


def family_of(kind, outputs, width, height):
    found = recognise(outputs, width, height, oracle.METADATA.get(kind, {}))
    assert found is not None, kind
    assert found.name == oracle.KINDS[kind]
    return found.family


def matched(faces, expected, points):
    """Compare without order: families differ in how they walk through a cell."""
    assert len(faces) == len(expected) > 5
    boxes = np.array([face[1] for face in expected])
    partners = [int(np.abs(boxes - box).max(1).argmin()) for box in faces.boxes]
    assert len(set(partners)) == len(partners)
    np.testing.assert_allclose(faces.boxes, boxes[partners], rtol=2e-4, atol=2e-3)
    np.testing.assert_allclose(faces.scores, [expected[i][0] for i in partners], rtol=1e-4, atol=1e-6)
    marks = np.array([np.reshape(expected[i][2], (points, 2)) for i in partners])
    np.testing.assert_allclose(faces.landmarks, marks, rtol=2e-4, atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(WIDTH, HEIGHT), (96, 224)])
def test_decoding_equals_the_loop(kind, size):
    width, height = size
    table = random_numbers(kind, width, height)
    outputs = oracle.outputs_of(kind, table, width, height)
    everything = [face for face in oracle.decode(kind, table, width, height) if np.isfinite(face[1]).all()]
    threshold = sorted(face[0] for face in everything)[-40] - 1e-4
    expected = [face for face in everything if face[0] >= threshold]
    found = family_of(kind, outputs, width, height).faces(outputs, width, height, threshold)
    matched(found, expected, oracle.POINTS[kind])


def known_face(kind, part):
    """A face that the prior at that part of all can mean, near it and of about its size; and the prior's number."""
    everyone = [(60, 80, 32, 32)] if kind == "decoded" else oracle.priors(kind, WIDTH, HEIGHT)
    at = int(part * len(everyone))
    prior = everyone[at]
    x, y, w, h = prior
    if kind.startswith("yolo5"):
        (x, y), (w, h) = (x * prior[2], y * prior[2]), prior[3]
    elif kind.startswith("yolov8"):
        x, y = (x + 0.5) * w, (y + 0.5) * w
    w, h = max(min(w, 60), 12), max(min(h, 60), 12)
    box = (x - 0.45 * w, y - 0.6 * h, x + 0.6 * w, y + 0.55 * h)
    steps = np.linspace(0.2, 0.8, oracle.POINTS[kind])
    points = [(box[0] + t * (box[2] - box[0]), box[1] + (1 - t * t) * (box[3] - box[1])) for t in steps]
    return (0.81, box, points), at


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.3, 0.77, 0.999])
def test_a_known_face_comes_out_where_it_should(kind, part, tmp_path):
    """Through a file of a fixed, oblong size: the image is fitted into it, its face comes back with two factors."""
    face, at = known_face(kind, part)
    outputs = oracle.encode(kind, WIDTH, HEIGHT, face, at)
    path = constant_graph(tmp_path / "a.onnx", outputs, (WIDTH, HEIGHT), oracle.METADATA.get(kind))
    detector = FaceDetector(path, score=0.5)
    assert (detector.family, detector.static_shape) == (oracle.KINDS[kind], (WIDTH, HEIGHT))
    # 501 x 307 into 320 x 192: the height limits, the width 501 * 192 / 307 = 313.3 is truncated
    faces = detector.detect(np.zeros((307, 501, 3), np.uint8))
    factors = np.array([313 / 501, 192 / 307])
    assert len(faces) == 1
    assert faces.scores[0] == pytest.approx(face[0], abs=1e-4)
    np.testing.assert_allclose(faces.boxes[0], np.array(face[1]) / np.tile(factors, 2), atol=0.02)
    np.testing.assert_allclose(faces.landmarks[0], np.reshape(face[2], (oracle.POINTS[kind], 2)) / factors, atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_equal_to_the_threshold_counts(kind):
    face, at = known_face(kind, 0.4)
    outputs = oracle.encode(kind, WIDTH, HEIGHT, face, at)
    family = family_of(kind, outputs, WIDTH, HEIGHT)
    score = float(family.faces(outputs, WIDTH, HEIGHT, 0.5).scores[0])
    assert len(family.faces(outputs, WIDTH, HEIGHT, score)) == 1
    assert len(family.faces(outputs, WIDTH, HEIGHT, np.nextafter(np.float32(score), np.float32(1)))) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_image_is_fed_as_the_network_learned_it(kind):
    value, order, multiple = oracle.IMAGES[oracle.KINDS[kind]]
    multiple = 64 if kind.endswith("p6") else multiple
    outputs = oracle.outputs_of(kind, random_numbers(kind, WIDTH, HEIGHT), WIDTH, HEIGHT)
    family = family_of(kind, outputs, WIDTH, HEIGHT)
    image = np.random.default_rng(2).integers(0, 256, (40, 70, 3), np.uint8)
    for size in (None, (128, 72)):
        blob = family.prepare(image, size)
        width, height = size or (-(-70 // multiple) * multiple, -(-40 // multiple) * multiple)
        black = np.zeros((height, width, 3))
        black[:40, :70] = image
        expected = value(black if order == "bgr" else black[..., ::-1])
        assert blob.dtype == np.float32
        np.testing.assert_allclose(blob, expected.transpose(2, 0, 1)[None], atol=1e-5)


def test_centerface_stretches_an_image_of_any_size(tmp_path):
    detector = FaceDetector(centre_graph(tmp_path / "a.onnx"), score=0.9)
    assert (detector.family, detector.static_shape) == ("centerface", None)
    image = np.zeros((48, 80, 3), np.uint8)  # becomes 64 high and 96 wide
    image[12:24, 40:60, 2] = 255  # red: rows 16 to 32, columns 48 to 72
    faces = detector.detect(image)
    assert len(faces) >= 3
    # cells from 52 to 68 and 20 to 28 are red throughout; boxes of 8 are about the middle, 2 more to the right
    np.testing.assert_allclose(
        np.diff(faces.boxes.reshape(-1, 2, 2), axis=1)[:, 0], [[8 / 1.2, 8 * 0.75]] * len(faces), rtol=1e-5
    )
    centres = faces.boxes.reshape(-1, 2, 2).mean(1) * [1.2, 4 / 3]
    assert {(float(x), float(y)) for x, y in np.round(centres, 3)} >= {(56.0, 22.0), (64.0, 26.0)}
    assert ((centres[:, 0] - 2 > 48) & (centres[:, 0] - 2 < 72) & (centres[:, 1] > 16) & (centres[:, 1] < 32)).all()
    np.testing.assert_allclose(faces.landmarks, np.repeat(faces.boxes[:, None, :2], 5, axis=1))
