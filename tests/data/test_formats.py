"""What all label formats have in common: what is written is read again, and every one is recognised by itself alone."""

import itertools

import numpy as np
import pytest
from data.label_sets import draw_headers, random_set

from facetrain.core.errors import DataError
from facetrain.data.holds import Holds, reduced
from facetrain.data.landmark_names import default_names
from facetrain.data.layout import find_split, format_module, format_names, read_place

WRITABLE = [name for name in format_names() if hasattr(format_module(name), "write")]
# How far a position may be from what was written, in pixels: shares of the image lose the last digits, WIDER FACE's
# list has whole pixels. All others give float32 again.
EXACT = {"yolo": 2e-3 * 2**-9, "wider_face": 0.5}


def written(name, tmp_path, seed):
    """A random set written in a format: its place, the landmarks' names, and what it should be read as."""
    module = format_module(name)
    place = module.target(tmp_path / str(seed), "train")
    points, images = random_set(seed, place.images)
    images, _ = reduced(images, module.HOLDS)
    draw_headers(images)
    module.write(place.labels, images, points if module.HOLDS.landmarks else ())
    return place, points if module.HOLDS.landmarks else (), images


def test_there_are_as_many_formats_as_are_promised():
    assert format_names() == [
        "coco", "csv", "cvat", "fddb", "labelme", "labelv2", "retinaface", "voc", "wider_face", "yolo",
    ]  # fmt: skip
    assert [name for name in format_names() if name not in WRITABLE] == ["fddb"]


@pytest.mark.parametrize("name", WRITABLE)
def test_two_hundred_random_sets_come_back(name, tmp_path):
    module = format_module(name)
    for seed in range(200):
        place, points, images = written(name, tmp_path, seed)
        if not images:
            continue
        labels = module.read(place.labels, place.images, points)
        labels.raise_on_problems()
        # of a format that lists no names, a landmark that no face has is not there
        assert all(note.startswith("without the landmarks") for note in labels.notes), (seed, labels.notes)
        again = {image.name: image for image in labels.images}
        assert sorted(again) == sorted(image.name for image in images), seed
        for image in images:
            check_equal(again[image.name], image, module.HOLDS, EXACT.get(name, 0.0))


def check_equal(again, image, holds: Holds, tolerance: float) -> None:
    assert again.path == image.path
    assert again.size is None or again.size == image.size
    boxes = image.boxes
    if not holds.decimals:
        corners, sides = np.rint(boxes[:, :2]), np.rint(boxes[:, 2:]) - np.rint(boxes[:, :2])
        boxes = np.concatenate([corners, corners + np.maximum(sides, 1)], 1)
        tolerance = 0
    assert again.boxes.dtype == np.float32
    np.testing.assert_allclose(again.boxes, boxes, rtol=0, atol=tolerance)
    assert (again.ignore == image.ignore).all()
    if holds.landmarks:
        np.testing.assert_allclose(again.landmarks, image.landmarks, rtol=0, atol=tolerance)
    if holds.hidden and image.hidden is not None:
        assert (again.hidden == image.hidden).all()
    if holds.scores and image.scores is not None:
        assert (again.scores == image.scores).all()


@pytest.mark.parametrize("name", [name for name in WRITABLE if format_module(name).HOLDS.landmarks])
def test_landmarks_without_a_wish_are_those_of_the_labels(name, tmp_path):
    seed = next(seed for seed in range(100) if random_set(seed, tmp_path)[0] == default_names(7))
    place, points, _ = written(name, tmp_path, seed)
    assert format_module(name).read(place.labels, place.images).points == points


@pytest.fixture(scope="module")
def one_of_each(tmp_path_factory):
    """A set in every format, each in a folder of its own."""
    places = {}
    for name in WRITABLE:
        folder = tmp_path_factory.mktemp(name)
        sets = ((seed, *random_set(seed, folder)) for seed in range(300))
        seed = next(seed for seed, points, images in sets if len(images) > 2 and points == default_names(5))
        places[name] = written(name, folder, seed)[0]
    folder = tmp_path_factory.mktemp("fddb")
    (folder / "originalPics/2002/08").mkdir(parents=True)
    (folder / "FDDB-folds").mkdir()
    file = folder / "FDDB-folds/FDDB-fold-01-ellipseList.txt"
    file.write_text("2002/08/img_1\n1\n67.363 44.511 -1.476417 105.249 87.209  1\n")
    places["fddb"] = next(format_module("fddb").places(folder, "val"))
    return places


@pytest.mark.parametrize("name", format_names())
def test_each_is_recognised_by_itself_alone(name, one_of_each):
    for other, place in one_of_each.items():
        assert format_module(name).recognises(place.labels) is (name == other), other


@pytest.mark.parametrize("name", format_names())
def test_a_folder_and_a_file_are_found(name, one_of_each):
    place = one_of_each[name]
    root = next(above for above in place.images.parents if above.name.isdigit() or above.name.startswith("fddb"))
    found = find_split(root, "train" if name != "fddb" else "val")
    assert (found.format, found.images) == (name, place.images)
    labels = read_place(found, default_names(5))
    assert labels.images
    if found.labels.is_file():
        direct = find_split(found.labels, "train" if name != "fddb" else "val")
        assert (direct.format, direct.images) == (name, place.images)


def test_fddb_gives_the_box_around_its_ellipse(one_of_each):
    [image] = read_place(find_split(one_of_each["fddb"].labels.parent, "val"), ()).images
    assert image.name == "2002/08/img_1.jpg"
    angles = np.linspace(0, 2 * np.pi, 100_000)
    along, across = 67.363 * np.cos(angles), 44.511 * np.sin(angles)
    turned = np.exp(-1.476417j) * (along + 1j * across)
    x, y = turned.real + 105.249, turned.imag + 87.209
    np.testing.assert_allclose(image.boxes[0], [x.min(), y.min(), x.max(), y.max()], atol=1e-4)


@pytest.mark.parametrize("name", WRITABLE)
def test_two_images_of_one_name_are_not_written(name, tmp_path):
    module = format_module(name)
    _, images = random_set(1, tmp_path)
    plain = [image for image in images if module.HOLDS.name(image.name)] or pytest.skip("no such name")
    with pytest.raises(DataError, match="only once"):
        module.write(tmp_path / "labels" / "train", [plain[0], plain[0]], ())
    assert not any(path.is_file() for path in itertools.islice(tmp_path.rglob("*"), 5))
