from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetrain.core.errors import DataError, InputError, OutputError, UsageError
from facetrain.core.faces import Faces
from facetrain.eval import prediction_files
from facetrain.eval.average_precision import curve, match, tally
from facetrain.eval.prediction_files import check_free, read_predictions, write_predictions
from facetrain.eval.wider_face.benchmark import benchmark_of
from facetrain.eval.wider_face.ground_truth import find_ground_truth, load_ground_truth

NAME = "0--Parade/0_Parade_marchingband_1_465"
OTHER = "21--Festival/21_Festival_Festival_21_604"
NONE = Faces.none()


def prediction(*rows: list[float]) -> Faces:
    """From rows x1 y1 x2 y2 score."""
    table = np.array(rows, np.float64).reshape(-1, 5)
    return of_arrays(table[:, :4], table[:, 4])


def of_arrays(boxes: np.ndarray, scores: np.ndarray) -> Faces:
    return Faces(boxes, scores, np.zeros((len(scores), 0, 2), np.float32))


def write(folder: Path, text: str | bytes, name: str = NAME) -> Path:
    path = folder / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read_one(folder: Path, text: str | bytes) -> list[list[float]]:
    """Rows x1 y1 x2 y2 score of a file with this text."""
    write(folder, text)
    [found], missing = read_predictions(folder, [NAME])
    assert not missing
    assert found.boxes.dtype == found.scores.dtype == np.float64
    return np.column_stack([found.boxes, found.scores]).tolist()


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# --- writing


def test_the_text_of_a_file(tmp_path):
    found = prediction([345.12, 210.5, 349.5, 215.5, 0.875], [331, 126.5, 334, 134, 0.1 + 0.2])
    write_predictions(tmp_path / "out", [NAME, OTHER], [found, NONE])
    assert (tmp_path / f"out/{NAME}.txt").read_text().splitlines() == [
        f"{NAME}.jpg",
        "2",
        "345.12 210.5 4.3799999999999955 5.0 0.875",
        "331.0 126.5 3.0 7.5 0.30000000000000004",
    ]
    assert (tmp_path / f"out/{OTHER}.txt").read_text() == f"{OTHER}.jpg\n0\n"
    assert files_below(tmp_path / "out") == ["0--Parade", f"{NAME}.txt", "21--Festival", f"{OTHER}.txt"]


def test_images_of_a_set_without_events(tmp_path):
    names = ["a", "deep/er/b", "c.d"]
    write_predictions(tmp_path / "out", names, [prediction([i, 2, 3, 4, 0.5]) for i in range(3)])
    predictions, missing = read_predictions(tmp_path / "out", names)
    assert [faces.boxes[0, 0] for faces in predictions] == [0, 1, 2]
    assert not missing


def test_a_folder_with_files_is_refused(tmp_path):
    write_predictions(tmp_path / "out", [NAME], [NONE])
    before = files_below(tmp_path)
    with pytest.raises(UsageError, match="not empty"):
        write_predictions(tmp_path / "out", [OTHER], [NONE])
    with pytest.raises(UsageError, match="not empty"):
        check_free(tmp_path / "out")
    assert files_below(tmp_path) == before
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="not a folder"):
        write_predictions(tmp_path / "file", [NAME], [NONE])
    check_free(tmp_path / "none")


@pytest.mark.parametrize("through_link", [False, True])
def test_an_empty_folder_is_filled(tmp_path, through_link):
    """It may be a mounted one, so it must not be replaced."""
    folder = tmp_path / "out"
    folder.mkdir(mode=0o750)
    given = folder
    if through_link:
        given = tmp_path / "link"
        given.symlink_to(folder)
    before = folder.stat()
    write_predictions(given, [NAME, "top"], [NONE, NONE])
    assert files_below(folder) == ["0--Parade", f"{NAME}.txt", "top.txt"]
    assert (folder.stat().st_ino, folder.stat().st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
@pytest.mark.parametrize("column", range(5))
def test_nothing_is_left_behind_by_a_failure(tmp_path, there, bad, column):
    row = [1.0, 2, 3, 4, 0.5]
    row[column] = bad
    if there:
        (tmp_path / "out").mkdir()
    before = files_below(tmp_path)
    with pytest.raises(DataError) as caught:
        write_predictions(tmp_path / "out", [NAME, OTHER], [prediction([1, 2, 3, 4, 0.5]), prediction(row)])
    assert caught.value.message.startswith(OTHER)
    assert files_below(tmp_path) == before


def test_nothing_is_left_behind_by_an_interruption(tmp_path, monkeypatch):
    def interrupted(name: str, _: Faces) -> str:
        if name == OTHER:
            raise KeyboardInterrupt
        return ""

    monkeypatch.setattr(prediction_files, "result_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_predictions(tmp_path / "out", [NAME, OTHER], [NONE, NONE])
    assert files_below(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises((OutputError, UsageError)):
        write_predictions(tmp_path / "file" / "out", [NAME], [NONE])


@pytest.mark.parametrize("name", ["", "../a", "a/../../b", "/etc/a", "a//b", "a/", "a\\b", "./a", "a\0b"])
def test_names_that_lead_elsewhere(tmp_path, name):
    with pytest.raises(DataError):
        write_predictions(tmp_path / "out", [name], [NONE])
    with pytest.raises(DataError):
        read_predictions(tmp_path, [name])
    assert files_below(tmp_path) == []


def test_two_images_of_one_name(tmp_path):
    """`a.jpg` and `a.png` would share a file."""
    with pytest.raises(DataError, match="two images have this name"):
        write_predictions(tmp_path / "out", ["a", "a"], [NONE, NONE])


# --- reading


def test_boxes_become_corners_and_the_best_comes_first(tmp_path):
    rows = read_one(tmp_path, f"{NAME}.jpg\n3\n1 2 3 4 0.25\n5.5 6 7 8 0.75\n-9 -8 0 2.5 1e-3\n")
    assert rows == [[5.5, 6, 12.5, 14, 0.75], [1, 2, 4, 6, 0.25], [-9, -8, -9, -5.5, 1e-3]]


def test_equal_scores_keep_the_order_of_the_file(tmp_path):
    lines = [f"{i} 0 1 1 {score}" for i, score in enumerate([0.5, 0.7, 0.5, 0.7, 0.5] * 20)]
    rows = read_one(tmp_path, "\n".join(["x", str(len(lines)), *lines]))
    assert [row[0] for row in rows] == [i for i in range(100) if i % 5 in (1, 3)] + [
        i for i in range(100) if i % 5 in (0, 2, 4)
    ]


@pytest.mark.parametrize(
    "first", ["", NAME, f"{NAME}.jpg", "0_Parade_marchingband_1_465", "another", "a name with blanks", "# 3 4"]
)
def test_the_first_line_is_not_read(tmp_path, first):
    assert read_one(tmp_path, f"{first}\n1\n1 2 3 4 0.5\n") == [[1, 2, 4, 6, 0.5]]


@pytest.mark.parametrize(
    "text",
    [
        b"x\n1\n1 2 3 4 0.5",
        b"x\n1\n1 2 3 4 0.5\n\n \n\t\n",
        b"x\r\n1\r\n1 2 3 4 0.5\r\n",
        b"x\r1\r1 2 3 4 0.5\r",
        b"\xef\xbb\xbfx\n1\n1 2 3 4 0.5\n",
        b"\xe9\xff\n1\n1 2 3 4 0.5\n",  # a name in Latin-1
        b"x\n 1 \n  1\t2  3 4.0 +.5  \n",
        b"x\n01\n1e0 2 3 4 5E-1\n",
    ],
)
def test_line_ends_blanks_and_marks(tmp_path, text):
    assert read_one(tmp_path, text) == [[1, 2, 4, 6, 0.5]]


@pytest.mark.parametrize("text", ["x\n0\n", "x\n0", "\n0\n\n", "x\r\n0\r\n"])
def test_no_detections(tmp_path, text):
    write(tmp_path, text)
    [found], missing = read_predictions(tmp_path, [NAME])
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == (0,)
    assert missing == []


def test_scores_and_sizes_may_be_any_numbers(tmp_path):
    """The official tool takes them too: a box of negative size meets nothing, and scores are normalised."""
    rows = read_one(tmp_path, "x\n2\n10 10 -2 5 -7.5\n1 1 0 0 1200\n")
    assert rows == [[1, 1, 1, 1, 1200], [10, 10, 8, 15, -7.5]]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (b"", 2, "not the number of detections"),
        (b"x\n", 2, "not the number of detections"),
        (b"x\n\n\n", 2, "not the number of detections"),
        (b"x\ntwo\n", 2, "'two': not the number of detections"),
        (b"x\n-1\n", 2, "'-1': not the number"),
        (b"x\n1.0\n1 2 3 4 5\n", 2, "'1.0': not the number"),
        (b"x\n1 2 3 4 0.5\n", 2, "not the number of detections"),
        (b"x\n" + b"9" * 5000, 2, "not the number of detections"),
        (b"x\n2\n1 2 3 4 0.5\n", 2, "the count is 2, but the lines below it are 1"),
        (b"x\n1\n1 2 3 4 0.5\n1 2 3 4 0.5\n", 2, "the count is 1, but the lines below it are 2"),
        (b"x\n2\n1 2 3 4 0.5\n1 2 3 4\n", 4, "'1 2 3 4': five columns are wanted, not 4"),
        (b"x\n2\n1 2 3 4 0.5\n1 2 3 4 5 6\n", 4, "five columns are wanted, not 6"),
        (b"x\n2\n1 2 3 4\n1 2 3 4 5 6\n", 3, "five columns are wanted, not 4"),  # ten numbers, but not five each
        (b"x\n2\n1 2 3 4 0.5\n\n1 2 3 4 0.5\n", 4, "five columns are wanted, not 0"),
        (b"x\n1\n1,2,3,4,0.5\n", 3, "five columns are wanted, not 1"),
        (b"x\n1\n1 2 3 4 high\n", 3, "'high': not a number"),
        (b"x\n2\n1 2 3 4 0.5\n1 2 3 4 nan\n", 4, "'nan': not a finite number"),
        (b"x\n1\n1 2 inf 4 0.5\n", 3, "'inf': not a finite number"),
        (b"x\n1\n1 2 3 4 1e400\n", 3, "'1e400': not a finite number"),
        (b"x\n1\n1 2 1e308 4 0.5\n", 3, "not a finite number"),  # its area would not be finite
        (b"x\n1\n1 2 3 4 1_0\n", 3, "'1_0': not a number"),
        (b"x\n1\n1 2 3 4 \xff\xfe\n", 3, "not a number"),
        (b"x\n1\n1 2 3 4 0.5\x00\n", 3, "not a number"),
    ],
)
def test_wrong_lines_are_named(tmp_path, text, line, message):
    path = write(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_predictions(tmp_path, [NAME])
    assert caught.value.message.startswith(f"{path}:{line}: ")
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_utf16_is_named(tmp_path):
    write(tmp_path, "x\n0\n".encode("utf-16"))
    with pytest.raises(DataError, match="UTF-16"):
        read_predictions(tmp_path, [NAME])


def test_a_long_line_is_shown_in_part(tmp_path):
    write(tmp_path, "x\n1\n" + "1 " * 5000)
    with pytest.raises(DataError) as caught:
        read_predictions(tmp_path, [NAME])
    assert len(caught.value.message) < len(str(tmp_path)) + 250


def test_a_file_that_is_too_large(tmp_path):
    path = write(tmp_path, "x\n0\n")
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    with pytest.raises(DataError, match="too large"):
        read_predictions(tmp_path, [NAME])


def test_a_folder_in_place_of_a_file(tmp_path):
    (tmp_path / f"{NAME}.txt").mkdir(parents=True)
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(tmp_path, [NAME])


# --- which file is whose


def test_a_missing_file_counts_as_no_detections(tmp_path):
    write(tmp_path, "x\n1\n1 2 3 4 0.5\n", OTHER)
    predictions, missing = read_predictions(tmp_path, [NAME, OTHER, "no--Such/event"])
    assert [len(faces) for faces in predictions] == [0, 1, 0]
    assert predictions[0].boxes.shape == (0, 4)
    assert missing == [NAME, "no--Such/event"]


def test_a_folder_without_any_of_the_files(tmp_path):
    write(tmp_path, "x\n0\n", f"results/{NAME}")
    with pytest.raises(InputError) as caught:
        read_predictions(tmp_path, [NAME, OTHER])
    assert caught.value.message == f"{tmp_path}: no file of any of the 2 images, such as {NAME}.txt"
    assert caught.value.hint == f"it has results/{NAME}.txt"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no \.txt file at all"):
        read_predictions(tmp_path / "empty", [NAME])


def test_a_folder_that_is_none(tmp_path):
    (tmp_path / "file.zip").touch()
    with pytest.raises(InputError, match="not a folder"):
        read_predictions(tmp_path / "file.zip", [NAME])
    with pytest.raises(InputError, match="no such folder"):
        read_predictions(tmp_path / "none", [NAME])


def test_no_names_want_no_files(tmp_path):
    assert read_predictions(tmp_path, []) == ([], [])


def test_files_without_event_folders(tmp_path):
    write(tmp_path, "x\n1\n1 2 3 4 0.5\n", NAME.rpartition("/")[2])
    predictions, missing = read_predictions(tmp_path, [OTHER, NAME])
    assert [len(faces) for faces in predictions] == [0, 1]
    assert missing == [OTHER]


def test_files_without_event_folders_must_be_clear(tmp_path):
    write(tmp_path, "x\n0\n", "a")
    with pytest.raises(InputError, match="several events have images of one name"):
        read_predictions(tmp_path, ["0--Parade/a", "1--Handshaking/a"])
    write(tmp_path, "x\n0\n", "0--Parade/a")
    with pytest.raises(InputError, match="both in folders and beside them"):
        read_predictions(tmp_path, ["0--Parade/a", "1--Handshaking/b"])


# --- there and back

floats = st.floats(-4096, 4096, width=32, allow_subnormal=False)
row = st.tuples(floats, floats, floats, floats, st.floats(-1e6, 1e6, allow_subnormal=False))


@settings(deadline=None, max_examples=50)
@given(tables=st.lists(st.lists(row, max_size=6), min_size=1, max_size=4))
def test_there_and_back(tmp_path_factory, tables):
    folder = tmp_path_factory.mktemp("predictions") / "out"
    names = [f"event{i % 2}/image{i}" for i in range(len(tables))]
    written = [prediction(*map(list, table)) for table in tables]
    write_predictions(folder, names, written)
    back, missing = read_predictions(folder, names)
    assert not missing
    for faces, read in zip(written, back, strict=True):
        order = np.argsort(-faces.scores, kind="stable")
        assert np.array_equal(read.scores, faces.scores[order])
        np.testing.assert_allclose(read.boxes, faces.boxes[order], rtol=0, atol=1e-12)


def test_average_precision_is_the_same_from_files(tmp_path):
    """float32 detections, as every network gives them, around boxes that they meet at IoU near 0.5."""
    rng = np.random.default_rng(5)
    images, predictions = [], []
    for _ in range(20):
        corner, size = rng.integers(0, 900, (30, 2)), rng.integers(6, 60, (30, 2))
        boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float64)
        moved = boxes[rng.integers(0, 30, 200)] + rng.normal(0, 5, (200, 4))
        scores = np.sort(rng.random(200, np.float32))[::-1]
        predictions.append(of_arrays(moved.astype(np.float32).astype(np.float64), scores.astype(np.float64)))
        images.append(boxes)
    names = [f"event/{i}" for i in range(20)]
    write_predictions(tmp_path / "out", names, predictions)
    back, _ = read_predictions(tmp_path / "out", names)
    curves = [
        curve(
            tally(
                match([(p.boxes, p.scores, boxes) for p, boxes in zip(some, images, strict=True)]), np.ones(600, bool)
            )
        )
        for some in (predictions, back)
    ]
    assert 0.1 < (curves[0].ap or 0) < 0.9
    assert curves[0].ap == curves[1].ap
    assert np.array_equal(curves[0].proposals, curves[1].proposals)
    assert np.array_equal(curves[0].found, curves[1].found)


@pytest.mark.slow
def test_the_truth_as_detections_measured_from_files(tmp_path, shared):
    """The self-test of the official evaluation: every box a detection, its height the score."""
    truth = load_ground_truth(find_ground_truth(shared / "widerface"))
    write_predictions(tmp_path / "out", truth.names, [of_arrays(b, b[:, 3] - b[:, 1]) for b in truth.boxes])
    back, missing = read_predictions(tmp_path / "out", truth.names)
    assert not missing
    benchmark = benchmark_of(truth, [Path(f"{name}.jpg") for name in truth.names])
    ap = benchmark.score(back).ap
    expected = {"easy": 1.00000000, "medium": 0.99999997, "hard": 0.99991253}
    assert ap == pytest.approx(expected, abs=1e-8, rel=0)
