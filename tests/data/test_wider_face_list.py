"""WIDER FACE's own list of boxes."""

from pathlib import Path

import pytest

from facetrain.data.formats import wider_face
from facetrain.data.layout import find_split, read_place

LIST = """0--Parade/a b (ü).jpg
2
10 20 30 40 0 0 0 0 0 0\x20
1 2 3 4 2 1 0 1 2 0
0--Parade/b.jpg
0
0 0 0 0 0 0 0 0 0 0
1--Handshaking/c.png
1
5.5 6 7 8
2--Demo/d.jpg
0
2--Demo/e.jpg
2
1 1 0 5 0 0 0 0 0 0
3 3 5 5 0 0
"""


def read(tmp_path: Path, text: str):
    path = tmp_path / "wider_face_train_bbx_gt.txt"
    path.write_text(text)
    return wider_face.read(path, tmp_path / "images")


def test_boxes_marks_and_images_without_faces(tmp_path):
    labels = read(tmp_path, LIST)
    assert not labels.problems
    found = {image.name: (image.boxes.tolist(), image.ignore.tolist()) for image in labels.images}
    assert found == {
        "0--Parade/a b (ü).jpg": ([[10, 20, 40, 60], [1, 2, 4, 6]], [False, True]),
        "0--Parade/b.jpg": ([], []),
        "1--Handshaking/c.png": ([[5.5, 6, 12.5, 14]], [False]),
        "2--Demo/d.jpg": ([], []),
        "2--Demo/e.jpg": ([[3, 3, 8, 8]], [False]),
    }
    assert labels.statistics.boxes_without_area == 1


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("a.jpg\n2\n1 2 3 4\nb.jpg\n1\n1 2 3 4\n", [(4, "b.jpg")]),
        ("a.jpg\n2\n1 2 3 4\n", [(3, "1 2 3 4")]),
        ("a.jpg\n1\n1 2 x 4\n", [(3, "x")]),
        ("a.jpg\n1\n1 2 3\n", [(3, "1 2 3")]),
        ("a.jpg\n1\n1 2 nan 4\n", [(3, "nan")]),
        ("a.jpg\n1\n1 2 1e30 4\n", [(3, "1e+30")]),
        ("a.jpg\nmany\n1 2 3 4\nb.jpg\n0\n", [(2, "many")]),
        ("../a.jpg\n1\n1 2 3 4\n", [(1, "../a.jpg")]),
        ("C:\\a.jpg\n0\n", [(1, "C:\\a.jpg")]),
        ("a.jpg", [(1, "a.jpg")]),
    ],
)
def test_damaged_lists_name_their_lines(tmp_path, text, problems):
    assert [(problem.line, problem.token) for problem in read(tmp_path, text).problems] == problems


def test_the_official_folders_are_found(tmp_path):
    (tmp_path / "WIDER_val/images").mkdir(parents=True)
    (tmp_path / "wider_face_split").mkdir()
    (tmp_path / "wider_face_split/wider_face_val_bbx_gt.txt").write_text(LIST)
    place = find_split(tmp_path, "val")
    assert (place.format, place.images, place.whole) == ("wider_face", tmp_path / "WIDER_val/images", False)
    assert len(read_place(place, ("nose",)).images) == 5
    # the file itself, for either part
    file = tmp_path / "wider_face_split/wider_face_val_bbx_gt.txt"
    assert find_split(file, "val").images == tmp_path / "WIDER_val/images"
    assert find_split(file, "train").whole


def test_labelv2_goes_first_where_both_are(tmp_path):
    test_the_official_folders_are_found(tmp_path)
    (tmp_path / "labelv2/val").mkdir(parents=True)
    (tmp_path / "labelv2/val/labelv2.txt").write_text("# a.jpg 4 4\n")
    assert find_split(tmp_path, "val").format == "labelv2"
