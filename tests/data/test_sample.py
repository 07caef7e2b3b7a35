"""The drawn sample set: the same again from the same seed, true labels, and a cache that two processes may fill."""

import os
from pathlib import Path

import numpy as np
import pytest

from facetrain.core.boxes import box_iou
from facetrain.core.errors import OutputError
from facetrain.core.images import opencv, read_image
from facetrain.data.sample_set import make as sample
from facetrain.data.sample_set.drawing import Layer, View, draw_person, ellipse
from facetrain.data.sample_set.make import SAMPLE_VERSION, DrawnFace, draw_image, sample_root, write_sample

IMAGES = 60  # three times each event of each kind


@pytest.fixture(scope="module")
def images() -> list[tuple[np.ndarray, list[DrawnFace]]]:
    return [draw_image(0, 0, index) for index in range(IMAGES)]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, train=20, val=8)
    return folder


def clear_faces(images):
    """Whole, uncovered faces of some size, with their images."""
    for image, faces in images:
        for face in faces:
            inside = (face.box[:2] > 0).all() and (face.box[2:] < (image.shape[1], image.shape[0])).all()
            if not face.ignore and inside and face.visible > 0.97 and face.box[2] - face.box[0] > 40:
                yield image, face


def test_same_seed_same_files(root, tmp_path):
    write_sample(tmp_path, train=20, val=8)
    files = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    for path in files:
        assert (root / path).read_bytes() == (tmp_path / path).read_bytes(), path


def test_images_do_not_depend_on_their_order(images):
    for index in (17, 3, 11):
        image, faces = draw_image(0, 0, index)
        assert np.array_equal(image, images[index][0])
        for again, face in zip(faces, images[index][1], strict=True):
            assert np.array_equal(again.box, face.box)
            assert np.array_equal(again.landmarks, face.landmarks, equal_nan=True)


@pytest.mark.parametrize("other", [(1, 0, 3), (0, 1, 3), (0, 0, 23)])
def test_seed_split_and_index_each_change_the_image(images, other):
    image, _ = draw_image(*other)
    first = images[3][0]
    assert image.shape != first.shape or np.abs(image.astype(int) - first).mean() > 5


def test_layout_is_that_of_wider_face(root):
    for split, count in (("train", 20), ("val", 8)):
        lines = (root / "labelv2" / split / "labelv2.txt").read_text().splitlines()
        headers = [line.split() for line in lines if line.startswith("#")]
        assert len(headers) == count
        for _, name, width, height in headers:
            image = read_image(root / f"WIDER_{split}" / "images" / name)
            assert image.shape == (int(height), int(width), 3)
            event, _, file = name.partition("/")
            assert file.startswith(event.replace("--", "_"))
        listed = {name for _, name, _, _ in headers}
        images = root / f"WIDER_{split}" / "images"
        assert {path.relative_to(images).as_posix() for path in images.rglob("*.jpg")} == listed


def test_label_lines_are_well_formed_and_inside(root):
    kinds = set()
    for split in ("train", "val"):
        width = height = 0
        for line in (root / "labelv2" / split / "labelv2.txt").read_text().splitlines():
            if line.startswith("#"):
                width, height = (int(token) for token in line.split()[2:])
                continue
            numbers = [float(token) for token in line.split()]
            kinds.add(len(numbers))
            x1, y1, x2, y2 = numbers[:4]
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
            if len(numbers) == 5:
                assert numbers[4] == 1
                continue
            for x, y, v in np.reshape(numbers[4:], (5, 3)):
                if (x, y, v) != (-1, -1, -1):
                    assert v >= 0
                    assert 0 <= x <= width
                    assert 0 <= y <= height
    assert 19 in kinds
    assert kinds <= {5, 19}


def test_variety(images):
    faces = [face for _, faces in images for face in faces]
    counted = [face for face in faces if not face.ignore]
    short = np.array([min(face.box[2:] - face.box[:2]) for face in counted])
    assert 8 <= short.min() < 10
    assert short.max() > 150
    assert 0.05 < (short < 12).mean() < 0.25
    assert 0 < len(faces) - len(counted) < 0.08 * len(faces)
    numbers = [len(faces) for _, faces in images]
    assert numbers.count(0) == IMAGES // 20
    assert max(numbers) > 12
    assert 4 < np.mean(numbers) < 9
    assert {image.shape for image, _ in images} == {(360, 480, 3), (480, 360, 3)}


def test_landmarks_are_near_their_box_and_in_the_persons_order(images):
    for _, faces in images:
        for face in faces:
            size = face.box[2:] - face.box[:2]
            low, high = face.box[:2] - 0.12 * size - 1, face.box[2:] + 0.12 * size + 1
            seen = face.landmarks[~np.isnan(face.landmarks[:, 0])]
            assert ((seen >= low) & (seen <= high)).all()
            if len(seen) == 5:  # rolls stay below 50 degrees, so left stays left and up stays up
                eye_a, eye_b, nose, mouth_a, mouth_b = face.landmarks
                assert eye_a[0] < eye_b[0]
                assert mouth_a[0] < mouth_b[0]
                down = (mouth_a + mouth_b - eye_a - eye_b)[1]
                assert down > 0
                assert (eye_a + eye_b)[1] < 2 * nose[1] < (mouth_a + mouth_b)[1] + 0.3 * down


def test_labelled_faces_can_be_seen(images):
    for _, faces in images:
        for face in faces:
            assert face.visible >= (0.3 if face.ignore else 0.5)


@pytest.mark.parametrize(("hidden", "fate"), [(0.0, "kept"), (0.4, "kept"), (0.6, "ignored"), (0.9, "dropped")])
def test_a_covered_face_is_ignored_or_dropped(hidden, fate):
    owner = np.zeros((200, 200), np.int16)
    scene = Layer(np.full((200, 200, 3), 128, np.uint8), owner)
    rng = np.random.default_rng(11)  # draws a face that is not blurred
    drawn = draw_person(scene, View(100 + 100j, 50.0, 0, 0, 0), np.array([0.0, 0, 1]), 1, rng)
    top, bottom = drawn.outline.imag.min(), drawn.outline.imag.max()
    edge = top + hidden * (bottom - top)
    scene.fill(np.array([0j, 200 + 0j, 200 + 1j * edge, 1j * edge]), np.zeros(3))
    label = sample._label(owner, drawn, 1)
    assert (label is None) == (fate == "dropped")
    if label is not None:
        assert label.ignore == (fate == "ignored")
        # An ellipse is covered more slowly than its box; a quarter is more than that can differ.
        assert label.visible == pytest.approx(1 - hidden, abs=0.1)
        assert label.box == pytest.approx([drawn.outline.real.min(), top, drawn.outline.real.max(), bottom])


@pytest.mark.parametrize(("x", "kept"), [(100, True), (12, True), (-6, False)])
def test_a_face_cut_by_the_border_is_clipped_or_dropped(x, kept):
    owner = np.zeros((200, 200), np.int16)
    scene = Layer(np.full((200, 200, 3), 128, np.uint8), owner)
    view = View(complex(x, 100), 50.0, 0, 0, 0)
    label = sample._label(owner, draw_person(scene, view, np.array([0.0, 0, 1]), 1, np.random.default_rng(11)), 1)
    assert (label is not None) == kept
    if label is not None:
        assert label.box[0] == pytest.approx(max(0, x - (label.box[2] - x)), abs=0.5)
        assert np.isnan(label.landmarks[:, 0]).any() == (x < 20)


def test_boxes_end_where_the_face_ends():
    """The outline of a bare face, found in the pixels, is the box. Any pose gives a box of the same meaning."""
    for roll in (-0.7, 0.0, 0.4):
        owner = np.zeros((300, 300), np.int16)
        scene = Layer(np.zeros((300, 300, 3), np.uint8), owner)
        view = View(150.25 + 149.5j, 60.0, 0.4, -0.1, roll)
        drawn = draw_person(scene, view, np.array([0.0, 0, 1]), 7, np.random.default_rng(1))
        ys, xs = np.nonzero(owner == 7)
        box = sample._label(owner, drawn, 7).box
        assert box == pytest.approx([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], abs=1.5)


def test_eye_landmarks_lie_on_eyes(images):
    """The darkest spot around an eye (pupil, lid or dark glasses) is darker than any of the cheek below."""
    darker = []
    for image, face in clear_faces(images):
        right, left, _, *mouth = face.landmarks
        down = (np.mean(mouth, axis=0) - (right + left) / 2) * 0.5
        reach = max(2, int(np.linalg.norm(left - right) / 8))
        for eye in (right, left):
            spots = [
                image[int(y) - reach : int(y) + reach + 1, int(x) - reach : int(x) + reach + 1].mean(-1).min()
                for x, y in (eye, eye + down)
            ]
            darker.append(spots[0] < spots[1])
    assert len(darker) > 60
    assert np.mean(darker) > 0.9


@pytest.mark.slow
def test_a_detector_trained_on_photographs_finds_them(shared):
    """The published YuNet has seen no drawing; it finds the faces, and means the same boxes and points."""
    cv2 = opencv()
    model = str(shared / "reference/yunet/yunet_n_dynamic.onnx")
    detector = cv2.FaceDetectorYN.create(model, "", (640, 640), 0.5, 0.45)
    overlaps, errors = [], []
    for index in range(20):
        image, faces = draw_image(0, 1, index)
        image = cv2.resize(image, None, fx=2, fy=2)
        detector.setInputSize(image.shape[1::-1])
        found = detector.detect(image)[1]
        rows = np.zeros((0, 15), np.float32) if found is None else found / 2
        boxes = np.concatenate((rows[:, :2], rows[:, :2] + rows[:, 2:4]), 1)
        for face in faces:
            if face.ignore:
                continue
            iou = np.append(box_iou(boxes, face.box[None])[:, 0], 0)
            overlaps.append(iou.max())
            if iou.max() > 0.5:
                points = rows[iou.argmax(), 4:14].reshape(5, 2)
                errors.append(np.abs(points - face.landmarks) / (face.box[2] - face.box[0]))
    overlaps = np.array(overlaps)
    assert (overlaps > 0.5).mean() > 0.85
    assert overlaps[overlaps > 0.5].mean() > 0.75
    assert np.nanmedian(np.array(errors), axis=0).max() < 0.1


def test_ellipse_is_one():
    points = (ellipse(3 + 4j, 5, 2, 0.3) - (3 + 4j)) * np.exp(-0.3j)
    assert (points.real / 5) ** 2 + (points.imag / 2) ** 2 == pytest.approx(1)


@pytest.fixture
def small_cache(tmp_path, monkeypatch) -> Path:
    """An empty cache folder, and a sample set of three images."""
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sample, "write_sample", lambda root, progress=None: write_sample(root, 2, 1, progress=progress))
    return tmp_path / "cache" / "facetrain"


def test_sample_root_draws_once(small_cache):
    calls = []
    root = sample_root(progress=lambda done, total: calls.append((done, total)))
    assert root == small_cache / f"sample-v{SAMPLE_VERSION}"
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert [path.name for path in small_cache.iterdir()] == [root.name]
    assert sample_root(progress=lambda done, total: calls.append((done, total))) == root
    assert len(calls) == 3


def test_sample_root_repairs_an_incomplete_folder(small_cache):
    root = sample_root()
    (root / "labelv2" / "val" / "labelv2.txt").unlink()
    (root / "left over").touch()
    assert sample_root() == root
    assert (root / "labelv2" / "val" / "labelv2.txt").is_file()
    assert not (root / "left over").exists()


def test_two_at_once_both_end_well(small_cache, monkeypatch):
    """The other process finishes while this one draws."""

    def drawn_meanwhile(root: Path, progress=None) -> None:
        write_sample(root, 2, 1)
        if not (small_cache / f"sample-v{SAMPLE_VERSION}").exists():
            write_sample(small_cache / f"sample-v{SAMPLE_VERSION}", 2, 1)

    monkeypatch.setattr(sample, "write_sample", drawn_meanwhile)
    root = sample_root()
    assert (root / "labelv2" / "train" / "labelv2.txt").is_file()
    assert [path.name for path in small_cache.iterdir()] == [root.name]


def test_an_interrupted_drawing_leaves_nothing(small_cache):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_root(progress=stop)
    assert list(small_cache.iterdir()) == []


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError) as caught:
        sample_root()
    assert "FACETRAIN_CACHE" in caught.value.hint


@pytest.mark.parametrize(
    ("platform", "variable", "tail"),
    [
        ("linux", "XDG_CACHE_HOME", ""),
        ("linux", None, ".cache"),
        ("darwin", None, "Library/Caches"),
        ("win32", "LOCALAPPDATA", ""),
    ],
)
def test_the_cache_of_each_system(tmp_path, monkeypatch, platform, variable, tail):
    for name in ("FACETRAIN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    if variable:
        monkeypatch.setitem(os.environ, variable, str(tmp_path / "set"))
    assert sample.user_cache() == (tmp_path / "set" if variable else tmp_path / "home" / tail)
