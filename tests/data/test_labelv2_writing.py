"""Label files as they are written, and read again."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetrain.core.errors import DataError
from facetrain.core.faces import LabelledImage
from facetrain.data.formats import labelv2
from facetrain.data.landmark_names import default_names


def image_of(name: str, boxes: list, landmarks: list, ignore: list, size: tuple[int, int] | None = (99, 88)):
    points = len(landmarks[0]) if landmarks else 5
    return LabelledImage(
        Path("images") / name,
        name,
        size,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(landmarks, np.float32).reshape(-1, points, 3),
        np.array(ignore, bool),
    )


def test_written_lines(tmp_path):
    whole = [[1, 2, 1], [3.125, 4.5, 1], [-1, -1, 0], [-0.001, 1234.5677, 0.5], [5, 6, 1]]
    none = [[-1, -1, 0]] * 5
    boxes = [[10, 20.5, 30.25, 44.126], [1, 2, 3, 4], [1, 2, 3, 4]]
    path = tmp_path / "new" / "labelv2.txt"
    labelv2.write(
        path, [image_of("0--Parade/ü.jpg", boxes, [whole, none, whole], [0, 0, 1]), image_of("b", [], [], [])]
    )
    assert path.read_bytes().decode() == (
        "# 0--Parade/ü.jpg 99 88\n"
        "10 20.5 30.25 44.126 1 2 1 3.125 4.5 1 -1 -1 -1 -0.001 1234.5677 1 5 6 1\n"
        "1 2 3 4\n"
        "1 2 3 4 1\n"
        "# b 99 88\n"
    )


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (image_of("a b.jpg", [], [], []), "blanks"),
        (image_of("a\u00a0b.jpg", [], [], []), "blanks"),
        (image_of("", [], [], []), "blanks"),
        (image_of("/a.jpg", [], [], []), "absolute"),
        (image_of("../a.jpg", [], [], []), r"\.\."),
        (image_of("b\\a.jpg", [], [], []), "slashes"),
        (image_of("a\udce9.jpg", [], [], []), "UTF-8"),
        (image_of("a.jpg", [], [], [], size=None), "width and height"),
        (image_of("a.jpg", [], [], [], size=(0, 5)), "width and height"),
        (image_of("a.jpg", [[0, 0, np.nan, 1]], [[[0, 0, 0]]], [0]), "finite"),
        (image_of("a.jpg", [[0, 0, 1, 1]], [[[0, np.inf, 1]]], [0]), "finite"),
    ],
)
def test_what_cannot_be_written(tmp_path, image, message):
    path = tmp_path / "labelv2.txt"
    with pytest.raises(DataError, match=message):
        labelv2.write(path, [image])
    assert not path.exists()


def test_an_image_is_written_once(tmp_path):
    with pytest.raises(DataError, match="only once"):
        labelv2.write(tmp_path / "labelv2.txt", [image_of("a.jpg", [], [], [])] * 2)


def test_missing_points_need_no_finite_position(tmp_path):
    labelv2.write(
        tmp_path / "labelv2.txt", [image_of("a.jpg", [[0, 0, 1, 1]], [[[np.nan, np.nan, 0], [1, 2, 1]]], [0])]
    )
    [image] = labelv2.read(tmp_path / "labelv2.txt", tmp_path, ("a", "b")).images
    assert image.landmarks.tolist() == [[[-1, -1, 0], [1, 2, 1]]]


names = st.from_regex(r"[a-zA-Z0-9_\-ü#]{2,8}(/[a-z0-9#]{1,8})?\.jpg", fullmatch=True)
pixels = st.floats(-50, 5000, width=32)


@st.composite
def label_files(draw: st.DrawFn) -> tuple[int, list[LabelledImage]]:
    landmarks = draw(st.sampled_from([0, 1, 5, 7]))
    images = []
    for name in draw(st.lists(names, min_size=1, max_size=4, unique=True)):
        count = draw(st.integers(0, 4))
        corner = np.array(draw(st.lists(st.tuples(pixels, pixels), min_size=count, max_size=count))).reshape(-1, 2)
        sides = st.floats(0.0625, 900, width=32)
        size = np.array(draw(st.lists(st.tuples(sides, sides), min_size=count, max_size=count))).reshape(-1, 2)
        points = st.lists(
            st.one_of(st.just((-1.0, -1.0, 0.0)), st.tuples(pixels, pixels, st.just(1.0))),
            min_size=landmarks,
            max_size=landmarks,
        )
        faces = draw(st.lists(points, min_size=count, max_size=count))
        ignore = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool)
        values = np.array(faces, np.float32).reshape(count, landmarks, 3)
        values[ignore] = (-1, -1, 0)  # the format has no landmarks for these
        boxes = np.concatenate([corner, corner + size], 1).astype(np.float32)
        side = st.integers(1, 20000)
        images.append(LabelledImage(Path("images") / name, name, (draw(side), draw(side)), boxes, values, ignore))
    return landmarks, images


@settings(max_examples=200, deadline=None)
@given(label_files())
def test_what_is_written_is_read_again(tmp_path_factory, case):
    landmarks, images = case
    path = tmp_path_factory.mktemp("labels") / "labelv2.txt"
    labelv2.write(path, images)
    assert labelv2.recognises(path)
    labels = labelv2.read(path, Path("images"), default_names(landmarks))
    labels.raise_on_problems()
    assert len(labels.images) == len(images)
    for again, image in zip(labels.images, images, strict=True):
        assert (again.path, again.name, again.size) == (image.path, image.name, image.size)
        assert (again.boxes == image.boxes).all()
        assert (again.landmarks == image.landmarks).all()
        assert (again.ignore == image.ignore).all()
    second = path.with_name("second.txt")
    labelv2.write(second, labels.images)
    assert second.read_bytes() == path.read_bytes()
