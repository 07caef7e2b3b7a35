from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from facetrain.core.errors import DataError, InputError
from facetrain.eval.wider_face.ground_truth import (
    SUBSETS,
    WiderGroundTruth,
    find_ground_truth,
    has_ground_truth,
    load_ground_truth,
)

# The golden case of the evaluation, with a box of negative width and an image without any box.
EVENTS = ["0--Parade", "21--Festival", "39--Ice"]
IMAGES = [["0_Parade_a_1"], ["21_Festival_b_2", "21_Festival_c_3"], ["39_Ice_jpg", "39_Ice_none"]]
BOXES = [
    [[[10, 10, 20, 20], [50, 10, 10, 10], [80, 80, 6, 6]]],
    [[[5, 5, 40, 40], [100, 100, 30, 30]], [[0, 0, 8, 8]]],
    [[[3, 4, -2, 5]], []],
]
COUNTED = {
    "easy": [[[1]], [[1], []], [[], []]],
    "medium": [[[1, 2]], [[1], []], [[], []]],
    "hard": [[[1, 2]], [[2, 1], []], [[1], []]],
}
NAMES = [f"{event}/{image}" for event, images in zip(EVENTS, IMAGES, strict=True) for image in images]

Variables = dict[str, Any]


def cell(values: list[Any]) -> np.ndarray:
    out = np.empty((len(values), 1), object)
    for i, value in enumerate(values):
        out[i, 0] = value
    return out


def nested(values: list[list[Any]], to_array: Callable[[Any], Any]) -> np.ndarray:
    return cell([cell([to_array(value) for value in inner]) for inner in values])


def indexes(values: list[int]) -> np.ndarray:
    return np.array(values, np.uint8)[:, None] if values else np.zeros((0, 0), np.uint8)


def variables(subset: str) -> Variables:
    """What one of the files holds, in the types of the official ones."""
    return {
        "event_list": cell(list(EVENTS)),
        "file_list": nested(IMAGES, str),
        "face_bbx_list": nested(BOXES, lambda boxes: np.array(boxes, np.int32).reshape(-1, 4)),
        "gt_list": nested(COUNTED[subset], indexes),
    }


def write(folder: Path, change: Callable[[Variables, str], None] = lambda _, __: None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for subset in SUBSETS:
        content = variables(subset)
        change(content, subset)
        savemat(folder / f"wider_{subset}_val.mat", content, do_compression=True)
    return folder


def error_of(tmp_path: Path, change: Callable[[Variables], None], only: str = "medium") -> str:
    """The message for a file in which something was changed, without the path before it."""
    write(tmp_path, lambda content, subset: change(content) if subset == only else None)
    with pytest.raises(DataError) as caught:
        load_ground_truth(tmp_path)
    path = f"{tmp_path / f'wider_{only}_val.mat'}: "
    assert caught.value.message.startswith(path)
    return caught.value.message.removeprefix(path)


# --- what is read


def test_names_boxes_and_counted_faces(tmp_path):
    truth = load_ground_truth(write(tmp_path))
    assert truth.names == NAMES
    assert [boxes.tolist() for boxes in truth.boxes] == [
        [[10, 10, 30, 30], [50, 10, 60, 20], [80, 80, 86, 86]],
        [[5, 5, 45, 45], [100, 100, 130, 130]],
        [[0, 0, 8, 8]],
        [[3, 4, 1, 9]],  # kept as it is
        [],
    ]
    assert all(boxes.dtype == np.float64 and boxes.shape[1] == 4 for boxes in truth.boxes)
    assert {subset: [mask.tolist() for mask in masks] for subset, masks in truth.counted.items()} == {
        "easy": [[True, False, False], [True, False], [False], [False], []],
        "medium": [[True, True, False], [True, False], [False], [False], []],
        "hard": [[True, True, False], [True, True], [False], [True], []],
    }
    assert tuple(truth.counted) == SUBSETS


@pytest.mark.parametrize(
    "empty", [np.zeros((0, 0), np.uint8), np.zeros((0, 1), np.uint16), np.zeros((0, 1)), np.zeros((1, 0))]
)
def test_an_empty_list_of_indexes_comes_in_several_shapes(tmp_path, empty):
    def change(content: Variables, _: str) -> None:
        content["gt_list"][1, 0][1, 0] = empty

    assert not load_ground_truth(write(tmp_path, change)).counted["hard"][2].any()


@pytest.mark.parametrize("empty", [np.zeros((0, 0), np.int32), np.zeros((0, 1)), np.zeros((0, 4))])
def test_an_empty_list_of_boxes_comes_in_several_shapes(tmp_path, empty):
    def change(content: Variables, _: str) -> None:
        content["face_bbx_list"][2, 0][1, 0] = empty

    assert load_ground_truth(write(tmp_path, change)).boxes[4].shape == (0, 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint64, np.float64])
@pytest.mark.parametrize("shape", [(-1, 1), (1, -1)])
def test_indexes_of_any_type_start_at_one(tmp_path, dtype, shape):
    """300 faces want uint16; in uint8 or uint16 an index of 0 minus 1 would be a large one."""
    count = 200 if dtype is np.uint8 else 300
    wanted = [1, 2, count]

    def change(content: Variables, _: str) -> None:
        content["face_bbx_list"][0, 0][0, 0] = np.arange(4 * count, dtype=np.int32).reshape(-1, 4)
        content["gt_list"][0, 0][0, 0] = np.array(wanted, dtype).reshape(shape)

    mask = load_ground_truth(write(tmp_path, change)).counted["easy"][0]
    assert (np.flatnonzero(mask) + 1).tolist() == wanted


def test_boxes_may_have_fractions(tmp_path):
    def change(content: Variables, _: str) -> None:
        content["face_bbx_list"][1, 0][1, 0] = np.array([[0.25, 1.5, 3.125, 4.75]])

    assert load_ground_truth(write(tmp_path, change)).boxes[2].tolist() == [[0.25, 1.5, 3.375, 6.25]]


def test_only_a_real_suffix_is_taken_from_a_name(tmp_path):
    """Stripping the characters of `.jpg` would eat the ends of these."""
    given = ["a_jpg", "b_pig", "c.gpj", "d.jpg.jpg", "e.JPG", "f.png", "g.jpg", ".jpgp"]

    def change(content: Variables, _: str) -> None:
        content["event_list"] = cell(["0--Parade"])
        content["file_list"] = cell([cell(given)])
        content["face_bbx_list"] = cell([cell([np.array([[1, 2, 3, 4]])] * len(given))])
        content["gt_list"] = cell([cell([indexes([1])] * len(given))])

    names = ["a_jpg", "b_pig", "c.gpj", "d.jpg", "e", "f", "g", ".jpgp"]
    assert load_ground_truth(write(tmp_path, change)).names == [f"0--Parade/{name}" for name in names]


def test_an_event_without_images(tmp_path):
    def change(content: Variables, _: str) -> None:
        for name in ("file_list", "face_bbx_list", "gt_list"):
            content[name][1, 0] = np.empty((0, 0), object)

    assert load_ground_truth(write(tmp_path, change)).names == [NAMES[0], *NAMES[3:]]


def test_restricted_keeps_the_order(tmp_path):
    truth = load_ground_truth(write(tmp_path))
    some = truth.restricted([NAMES[3], NAMES[1], "0--Parade/unknown", NAMES[1]])
    assert some.names == [NAMES[1], NAMES[3]]
    assert [boxes.tolist() for boxes in some.boxes] == [truth.boxes[1].tolist(), truth.boxes[3].tolist()]
    assert [mask.tolist() for mask in some.counted["hard"]] == [[True, True], [True]]
    assert truth.restricted([]) == WiderGroundTruth([], [], {subset: [] for subset in SUBSETS})
    assert truth.restricted(set(NAMES)).names == truth.names


# --- the official files


@pytest.fixture(scope="module")
def official(shared: Path) -> WiderGroundTruth:
    return load_ground_truth(find_ground_truth(shared / "widerface"))


def test_the_official_counts(official):
    assert len(official.names) == 3226
    assert sum(map(len, official.boxes)) == 39_708
    counts = {subset: sum(int(mask.sum()) for mask in official.counted[subset]) for subset in SUBSETS}
    assert counts == {"easy": 7_211, "medium": 13_319, "hard": 31_958}
    without = {subset: sum(not mask.any() for mask in official.counted[subset]) for subset in SUBSETS}
    assert without == {"easy": 622, "medium": 207, "hard": 7}


def test_easy_is_part_of_medium_and_medium_of_hard(official):
    for easy, medium, hard in zip(*(official.counted[subset] for subset in SUBSETS), strict=True):
        assert not (easy & ~medium).any()
        assert not (medium & ~hard).any()


def test_the_sizes_of_official_faces(official):
    """Smallest and median height of the counted ones, and the boxes without an area."""
    boxes = np.concatenate(official.boxes)
    height = boxes[:, 3] - boxes[:, 1]
    counted = {subset: height[np.concatenate(official.counted[subset])] for subset in SUBSETS}
    assert [counted[subset].min() for subset in SUBSETS] == [34, 16, 9]
    assert [np.median(counted[subset]) for subset in SUBSETS] == [82, 53, 25]
    assert ((boxes[:, 2:] - boxes[:, :2]) <= 0).any(1).sum() == 11
    negative = official.boxes[official.names.index("39--Ice_Skating/39_Ice_Skating_iceskiing_39_583")]
    assert (negative[:, 2] - negative[:, 0] == -2).sum() == 1


def test_official_images_are_in_the_order_of_their_label_file(official, shared):
    """They hold some of the images, with the same boxes in the same order, as corners."""
    labels: dict[str, list[list[float]]] = {}
    for line in (shared / "widerface/labelv2/val/labelv2.txt").read_text().splitlines():
        if line.startswith("#"):
            current = labels.setdefault(line.split()[1].removesuffix(".jpg"), [])
        else:
            current.append([float(value) for value in line.split()[:4]])
    some = official.restricted(labels)
    assert some.names == list(labels)
    assert [boxes.tolist() for boxes in some.boxes] == list(labels.values())


def test_official_masks_against_scipy_alone(official, shared):
    content = loadmat(shared / "widerface/labelv2/val/gt/wider_hard_val.mat")
    expected = [
        sorted(int(i) - 1 for i in np.array(image).ravel())
        for event in content["gt_list"][:, 0]
        for image in event[:, 0]
    ]
    assert [np.flatnonzero(mask).tolist() for mask in official.counted["hard"]] == expected


# --- where the files lie


@pytest.mark.parametrize("place", ["", "labelv2/val/gt", "ground_truth", "eval_tools/ground_truth", "wider_face_split"])
def test_the_folder_is_found(tmp_path, place):
    assert not has_ground_truth(tmp_path)
    write(tmp_path / place)
    assert has_ground_truth(tmp_path)
    assert find_ground_truth(tmp_path) == tmp_path / place


def test_a_folder_with_two_of_the_files_is_passed_over(tmp_path):
    write(tmp_path / "labelv2/val/gt")
    (tmp_path / "labelv2/val/gt/wider_hard_val.mat").unlink()
    with pytest.raises(InputError) as caught:
        find_ground_truth(tmp_path)
    assert f"{tmp_path / 'labelv2/val/gt'}: cannot find wider_hard_val.mat" in caught.value.message
    write(tmp_path / "wider_face_split")
    assert find_ground_truth(tmp_path) == tmp_path / "wider_face_split"


def test_what_is_missing_and_where_it_was_looked_for(tmp_path):
    with pytest.raises(InputError) as caught:
        find_ground_truth(tmp_path)
    message, hint = caught.value.message, caught.value.hint or ""
    assert message.startswith(f"{tmp_path}: cannot find wider_easy_val.mat, wider_medium_val.mat, wider_hard_val.mat")
    for place in ("labelv2/val/gt", "eval_tools/ground_truth"):
        assert str(tmp_path / place) in hint
    for path, shown in ((tmp_path / "none", "no such folder"), (tmp_path / "file", "not a folder")):
        (tmp_path / "file").touch()
        with pytest.raises(InputError, match=shown):
            find_ground_truth(path)
        assert not has_ground_truth(path)


# --- files that do not fit


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([0], "0--Parade/0_Parade_a_1: index 0 of a face that counts, but there are 3 boxes"),
        ([1, 4], "0--Parade/0_Parade_a_1: index 4 of a face that counts, but there are 3 boxes"),
        ([2, 2], "0--Parade/0_Parade_a_1: a face that counts twice"),
    ],
)
def test_an_index_out_of_range(tmp_path, index, message):
    def change(content: Variables) -> None:
        content["gt_list"][0, 0][0, 0] = indexes(index)

    assert error_of(tmp_path, change) == message


@pytest.mark.parametrize("value", [np.array([[1.5]]), np.array([[np.nan]]), np.array([[np.inf]]), "1"])
def test_indexes_that_are_no_whole_numbers(tmp_path, value):
    def change(content: Variables) -> None:
        content["gt_list"][0, 0][0, 0] = value

    assert error_of(tmp_path, change).startswith("0--Parade/0_Parade_a_1: indexes must be whole numbers")


@pytest.mark.parametrize(
    "value", [np.ones((4, 3)), np.ones((4, 1)), np.ones((2, 4, 2)), np.full((3, 4), np.nan), "box", cell([1, 2])]
)
def test_boxes_that_are_none(tmp_path, value):
    def change(content: Variables) -> None:
        content["face_bbx_list"][0, 0][0, 0] = value

    assert error_of(tmp_path, change).startswith("0--Parade/0_Parade_a_1: ")


@pytest.mark.parametrize("value", ["..", "a/b", "C:x", "a\\b", "a\nb", "", np.array([[1]])])
@pytest.mark.parametrize("what", ["event", "image"])
def test_names_that_are_no_part_of_a_path(tmp_path, value, what):
    def change(content: Variables) -> None:
        if what == "event":
            content["event_list"][0, 0] = value
        else:
            content["file_list"][0, 0][0, 0] = value

    message = error_of(tmp_path, change, only="easy")
    assert "has no usable name" in message
    assert "\n" not in message


def test_an_image_that_stands_there_twice(tmp_path):
    def change(content: Variables) -> None:
        content["file_list"][1, 0][1, 0] = "21_Festival_b_2.jpg"

    assert error_of(tmp_path, change, "hard") == "21--Festival/21_Festival_b_2: this image stands in the file twice"


def test_lists_of_different_length(tmp_path):
    def fewer_events(content: Variables) -> None:
        content["gt_list"] = content["gt_list"][:2]

    def fewer_images(content: Variables) -> None:
        content["gt_list"][1, 0] = content["gt_list"][1, 0][:1]

    assert error_of(tmp_path, fewer_events) == "3 events, but 2 in gt_list"
    assert error_of(tmp_path, fewer_images) == "21--Festival: 2 images, 2 lists of boxes, 1 of indexes"


@pytest.mark.parametrize("name", ["event_list", "file_list", "face_bbx_list", "gt_list"])
def test_numbers_in_place_of_cells(tmp_path, name):
    def change(content: Variables) -> None:
        content[name] = np.ones((3, 1))

    assert error_of(tmp_path, change) == f"{name}: not a cell array"


def test_files_that_do_not_agree(tmp_path):
    def other_box(content: Variables) -> None:
        content["face_bbx_list"][1, 0][0, 0][1, 2] += 1

    def other_name(content: Variables) -> None:
        content["file_list"][2, 0][0, 0] = "39_Ice_other"

    def fewer(content: Variables) -> None:
        for name in ("event_list", "file_list", "face_bbx_list", "gt_list"):
            content[name] = content[name][:2]

    first = "wider_easy_val.mat"
    assert error_of(tmp_path, other_box) == f"21--Festival/21_Festival_b_2: other boxes than in {first}"
    assert (
        error_of(tmp_path, other_name, "hard") == f"39--Ice/39_Ice_other: {first} has 39--Ice/39_Ice_jpg in this place"
    )
    assert error_of(tmp_path, fewer) == f"3 images, but 5 in {first}"


def test_a_file_without_the_faces_that_count(tmp_path, shared):
    """`wider_face_val.mat` under the name of another: the same images, but no list of what counts."""
    write(tmp_path)
    source = shared / "widerface/labelv2/val/gt/wider_face_val.mat"
    (tmp_path / "wider_easy_val.mat").write_bytes(source.read_bytes())
    with pytest.raises(DataError, match="no variable gt_list"):
        load_ground_truth(tmp_path)
