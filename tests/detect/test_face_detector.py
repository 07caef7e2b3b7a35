import multiprocessing
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import ClassVar

import cv2
import numpy as np
import PIL.Image
import pytest

from facetrain import FaceDetector
from facetrain.core.errors import DataError, DeviceError, FacetrainError, InputError, UsageError
from facetrain.core.faces import Detector, Faces
from facetrain.detect import bundled
from facetrain.detect.detector import parse_device
from facetrain.detect.find_weights import find_weights


@pytest.fixture
def bundled_spots(spots, tmp_path, monkeypatch):
    """A folder of bundled weights that holds the spot detector as yunet_n."""
    folder = tmp_path / "bundled"
    folder.mkdir()
    shutil.copy(spots, folder / "yunet_n.onnx")
    shutil.copy(spots, folder / "yunet_s.onnx")
    (folder / "yunet_n.pt").write_bytes(b"x")
    monkeypatch.setattr(bundled, "FOLDER", folder)
    return folder


def test_it_is_a_detector(spots):
    assert isinstance(FaceDetector(spots), Detector)


def test_an_image_may_be_an_array_or_a_path(spots, spot_image, tmp_path):
    image = spot_image(40, 30, (8, 16))
    cv2.imwrite(str(tmp_path / "a.png"), image)
    detector = FaceDetector(spots)
    for given in (image, tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(detector.detect(given).boxes, [[4, 12, 12, 20]])
    mixed = detector.detect_batch([image, tmp_path / "a.png"])
    assert [len(faces) for faces in mixed] == [1, 1]


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 1)])
def test_grey_arrays_are_three_equal_channels(spots, shape):
    grey = np.zeros(shape, np.uint8)
    grey[16:24, 8:16] = 255
    np.testing.assert_array_equal(FaceDetector(spots).detect(grey).boxes, [[4, 12, 12, 20]])


def test_views_of_an_array_are_images_too(spots, spot_image):
    detector = FaceDetector(spots)
    wide = spot_image(80, 30, (8, 16))
    wide.flags.writeable = False
    np.testing.assert_array_equal(detector.detect(wide[:, :40]).boxes, [[4, 12, 12, 20]])
    turned = detector.detect(wide[::-1, ::-1])  # the square is at y 6 to 14 now: six of the eight rows of a cell
    np.testing.assert_array_equal(turned.boxes, [[60, 4, 68, 12]])
    assert turned.scores == pytest.approx(0.75)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros(8, np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        [[1, 2, 3]],
        None,
    ],
)
def test_other_arrays_are_refused_with_what_is_expected(spots, image):
    with pytest.raises(InputError) as caught:
        FaceDetector(spots).detect(image)
    assert "uint8" in caught.value.hint
    assert "BGR" in caught.value.hint


def test_bundled_weights_by_name(bundled_spots, spot_image):
    assert len(FaceDetector().detect(spot_image(32, 32, (8, 8)))) == 1
    assert find_weights("yunet_s") == bundled_spots / "yunet_s.onnx"
    assert bundled.bundled_names() == ["yunet_n", "yunet_s"]
    assert bundled.bundled_weights("yunet_n", ".pt") == bundled_spots / "yunet_n.pt"


def test_an_unknown_name_lists_those_there_are(bundled_spots):
    with pytest.raises(InputError) as caught:
        FaceDetector("yunet-n")
    assert "did you mean 'yunet_n'" in caught.value.hint
    assert "yunet_s" in caught.value.hint


def test_no_bundled_weights_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "FOLDER", tmp_path / "absent")
    with pytest.raises(InputError, match="yunet_n"):
        FaceDetector()


def test_a_path_wins_over_a_bundled_name(bundled_spots, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yunet_n").write_bytes(b"something")
    with pytest.raises(DataError, match="not weights by its name"):
        FaceDetector("yunet_n")


@pytest.mark.parametrize(
    ("name", "content", "error", "said"),
    [
        (
            "a.onnx",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n",
            DataError,
            "git-lfs pointer",
        ),
        ("a.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", DataError, "git-lfs pointer"),
        ("a.onnx", b"", DataError, "empty"),
        ("a.txt", b"hello", DataError, "not weights"),
        ("a.onnx", b"hello", DataError, "not a usable ONNX model"),
    ],
)
def test_files_that_are_no_weights(tmp_path, name, content, error, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(error, match=said):
        FaceDetector(path)


def test_paths_without_weights(tmp_path):
    with pytest.raises(InputError, match="a folder"):
        FaceDetector(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        FaceDetector(tmp_path / "absent.onnx")
    with pytest.raises(InputError):
        FaceDetector("")
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(InputError) as caught:
        FaceDetector(tmp_path / "modle.onnx")
    assert "model.onnx" in caught.value.hint


@pytest.mark.parametrize(
    "settings",
    [
        {"score": -0.1},
        {"score": 1.1},
        {"score": float("nan")},
        {"nms": 0.0},
        {"nms": 1.5},
        {"max_candidates": 0},
        {"threads": 0},
    ],
)
def test_settings_out_of_range(spots, settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        FaceDetector(spots, **settings)


def test_settings_reach_the_detector(make_spots, spot_image):
    image = spot_image(64, 64, (8, 8), (48, 48))
    image[48:56, 48:56] //= 2
    path = make_spots()
    assert len(FaceDetector(path, score=0.5, threads=1).detect(image)) == 1
    assert len(FaceDetector(path, score=0.49).detect(image)) == 2
    assert len(FaceDetector(path, score=0.49, max_candidates=1).detect(image)) == 1


def test_names_of_devices():
    names = {"cpu": "cpu", "CPU": "cpu", "0": "cuda:0", "3": "cuda:3", "cuda": "cuda", "cuda:1": "cuda:1", "mps": "mps"}
    assert {name: parse_device(name) for name in names} == names
    for name in ("", "gpu", "cuda:", "cuda:x", "-1", "cpu:0", "1,2"):
        with pytest.raises(DeviceError, match="no device"):
            parse_device(name)


def test_a_checkpoint_goes_through_the_model(tmp_path, monkeypatch):
    asked = []

    class FakeDetector:
        landmark_names = ("a", "b")
        info: ClassVar[dict[str, str]] = {}

        def detect_batch(self, images):
            return [Faces.none(5) for _ in images]

    fake = ModuleType("facetrain.model.detector")
    fake.load_detector = lambda *arguments: asked.append(arguments) or FakeDetector()
    monkeypatch.setitem(sys.modules, "facetrain.model.detector", fake)
    for suffix in (".pt", ".pth"):
        path = tmp_path / f"best{suffix}"
        path.write_bytes(b"PK")
        faces = FaceDetector(path, device="1", score=0.3, nms=0.6, max_candidates=7).detect(
            np.zeros((8, 8, 3), np.uint8)
        )
        assert len(faces) == 0
        assert asked.pop() == (path, "cuda:1", 0.3, 0.6, 7)


def test_a_checkpoint_without_torch_is_one_line(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("facetrain.model")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "best.pt"
    path.write_bytes(b"PK")
    with pytest.raises(FacetrainError, match="PyTorch"):
        FaceDetector(path)


def test_onnx_detection_never_imports_torch(spots):
    code = f"""
import sys, numpy
from facetrain import FaceDetector
FaceDetector({str(spots)!r}).detect(numpy.zeros((40, 40, 3), numpy.uint8))
print([name for name in ("torch", "torchvision", "onnx", "matplotlib", "jinja2") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert done.stderr == ""


def test_pil_images_and_rgb_arrays_are_said_to_be_so(spots, spot_image):
    detector = FaceDetector(spots)
    image = spot_image(64, 64, (8, 16))  # blue, which the network looks at
    expected = detector.detect(image).boxes.tolist()
    assert len(expected) == 1
    assert detector.detect(image[..., ::-1], rgb=True).boxes.tolist() == expected
    assert len(detector.detect(image[..., ::-1])) == 0
    for pillow in (PIL.Image.fromarray(image[..., ::-1]), PIL.Image.fromarray(image[..., ::-1]).convert("RGBA")):
        assert detector.detect(pillow).boxes.tolist() == expected
        assert FaceDetector(spots, size="auto").detect_batch([pillow])[0].boxes.tolist() == expected


def test_a_stream_of_what_there_is(spots, spot_image, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), spot_image(64, 64, (8, 16)))
    cv2.imwrite(str(tmp_path / "b.png"), spot_image(64, 64))
    found = [(frame.image.width, len(faces)) for frame, faces in FaceDetector(spots).stream(tmp_path)]
    assert found == [(64, 1), (64, 0)]
    with pytest.raises(InputError, match="no such file"):
        next(FaceDetector(spots).stream(tmp_path / "no.png"))


@pytest.mark.parametrize("size", ["original", "auto"])
def test_a_pickled_detector_finds_the_same(spots, spot_image, size):
    detector = FaceDetector(spots, score=0.4, size=size)
    again = pickle.loads(pickle.dumps(detector))
    assert repr(again) == repr(detector)
    assert f"score=0.4, nms=0.45, max_candidates=5000, size='{size}', batch=1)  # yunet" in repr(detector)
    image = spot_image(64, 64, (8, 16), (40, 40))
    assert again.detect(image).boxes.tolist() == detector.detect(image).boxes.tolist()


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_other_processes_find_the_same(spots, spot_image, method):
    images = [spot_image(64, 64, (8 * k, 16)) for k in range(4)]
    detector = FaceDetector(spots, threads=1)
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.map(detector.detect, images)
    assert [faces.boxes.tolist() for faces in found] == [detector.detect(image).boxes.tolist() for image in images]


def test_several_threads_find_the_same(spots, spot_image):
    images = [spot_image(64 + 8 * k, 64, (8 * k, 16)) for k in range(8)] * 5
    detector = FaceDetector(spots, threads=1)
    expected = [detector.detect(image).boxes.tolist() for image in images]
    with ThreadPoolExecutor(4) as pool:
        assert [faces.boxes.tolist() for faces in pool.map(detector.detect, images)] == expected
