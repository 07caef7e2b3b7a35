import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from facetrain.core.errors import DataError
from facetrain.data.formats import labelv2
from facetrain.data.label_file import LabelFile
from facetrain.data.landmark_names import default_names

HEADER = "# 0--Parade/a.jpg 640 480"
POINTS = "12.5 24.25 0.0 13 25 2 14 26 1 15 27 3.5 16 28 0"
MISSING = "-1 -1 -1 " * 5

# The ten lines of `labels` in the reference's golden/model.json, read by the original trainer's own code: line,
# ignored, landmark weights. An error there is None here.
TEN_LINES = [
    ("10 20 30 44", False, [0, 0, 0, 0, 0]),
    ("10 20 30 44", False, [0, 0, 0, 0, 0]),  # in training, where the original refuses it and facetrain does not
    ("10 20 30 44 1", True, [0, 0, 0, 0, 0]),
    ("10 20 30 44 0", False, [0, 0, 0, 0, 0]),
    ("10 20 30 44" + " 12.5 24.25 0.0" * 5, False, [1, 1, 1, 1, 1]),
    ("10 20 30 44" + " 12.5 24.25 2.0" * 5 + " 0.82", False, [1, 1, 1, 1, 1]),
    ("10 20 30 44" + " -1 -1 -1" * 5, False, [0, 0, 0, 0, 0]),
    ("10 20 30 44" + " 12.5 24.25 1" * 3 + " -1 -1 -1" * 2, False, [1, 1, 1, 0, 0]),
    ("10 20 30 44" + " -1 -1 -1" * 4 + " 1 2 -1", None, None),
    ("10 20 30 44 1 2", None, None),
]


def read_text(tmp_path: Path, text: str | bytes, landmarks: int = 5) -> LabelFile:
    path = tmp_path / "labelv2.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return labelv2.read(path, tmp_path / "images", default_names(landmarks))


def problems_of(tmp_path: Path, text: str | bytes, landmarks: int = 5) -> list[tuple[int, str, str]]:
    return [(p.line, p.token, p.message) for p in read_text(tmp_path, text, landmarks).problems]


# --- face lines


@pytest.mark.parametrize(("line", "ignored", "weights"), TEN_LINES)
def test_ten_lines_are_read_as_the_original_reads_them(tmp_path, line, ignored, weights):
    labels = read_text(tmp_path, f"{HEADER}\n{line}\n")
    [image] = labels.images
    if ignored is None:
        assert [problem.line for problem in labels.problems] == [2]
        assert len(image.boxes) == 0
    else:
        assert not labels.problems
        assert image.boxes.tolist() == [[10, 20, 30, 44]]
        assert image.ignore.tolist() == [ignored]
        assert image.landmarks[..., 2].tolist() == [weights]


def test_ten_lines_are_those_of_the_golden_file(golden):
    assert [entry["line"] for entry in golden["labels"]] == [line for line, _, _ in TEN_LINES]
    for entry, (_, ignored, weights) in zip(golden["labels"], TEN_LINES, strict=True):
        if entry["result"] == "error: training needs more than a box":
            assert entry["training"]
        elif isinstance(entry["result"], str):
            assert ignored is None
        else:
            assert entry["result"] == {"ignored": ignored, "landmark_weight": weights}


def test_numbers_land_in_their_places(tmp_path):
    labels = read_text(tmp_path, f"{HEADER}\n1.5 2.25 30 40 {POINTS} 0.9 more\n  3 4 5 6\t1  \n")
    [image] = labels.images
    assert image.path == tmp_path / "images" / "0--Parade" / "a.jpg"
    assert image.name == "0--Parade/a.jpg"
    assert image.size == (640, 480)
    assert image.boxes.tolist() == [[1.5, 2.25, 30, 40], [3, 4, 5, 6]]
    assert image.landmarks[0].tolist() == [[12.5, 24.25, 1], [13, 25, 1], [14, 26, 1], [15, 27, 1], [16, 28, 1]]
    assert image.landmarks[1].tolist() == [[-1, -1, 0]] * 5
    assert image.ignore.tolist() == [False, True]
    assert (image.boxes.dtype, image.landmarks.dtype, image.ignore.dtype) == (np.float32, np.float32, np.bool_)


@pytest.mark.parametrize(
    ("mark", "ignored"), [("1", True), ("1.0", True), ("0", False), ("2", False), ("-1", False), ("0.5", False)]
)
def test_only_a_mark_of_one_means_ignored(tmp_path, mark, ignored):
    assert read_text(tmp_path, f"{HEADER}\n1 2 3 4 {mark}").images[0].ignore.tolist() == [ignored]


@pytest.mark.parametrize("landmarks", [0, 1, 2, 3, 5, 10])
@pytest.mark.parametrize("count", range(1, 36))
def test_number_of_tokens(tmp_path, count, landmarks):
    line = " ".join(["1", "2", "30", "40", *["7"] * 40][:count])
    text = f"{HEADER}\n{line}\n"
    there = (count - 4) // 3
    if landmarks and there not in (-1, 0, landmarks):
        with pytest.raises(DataError, match=rf"labelv2.txt:2: {there} landmarks? a face, without names, where"):
            read_text(tmp_path, text, landmarks)
        return
    labels = read_text(tmp_path, text, landmarks)
    right = count in (4, 5) or (count > 4 and landmarks in (0, there))
    assert [(p.line, p.token) for p in labels.problems] == ([] if right else [(2, line)])
    assert labels.images[0].landmarks.shape == (int(right), landmarks, 3)
    if right:
        assert (labels.images[0].landmarks[..., 2] == (1 if count > 5 else 0)).all()


def test_other_landmarks_than_those_of_the_model(tmp_path):
    """Which of them is which nobody knows, be they more or fewer; a model without any wants boxes alone."""
    text = f"{HEADER}\n1 2 3 4\n1 2 3 4 1\n" + f"1 2 3 4 {'1 2 1 ' * 7}\n" * 3 + f"1 2 3 4 {'1 2 1 ' * 5}\n"
    for landmarks in (5, 98):
        with pytest.raises(DataError) as raised:
            read_text(tmp_path, text, landmarks)
        where = f"{tmp_path / 'labelv2.txt'}:4"
        assert raised.value.message == f"{where}: 7 landmarks a face, without names, where the model has {landmarks}"
        assert "facetrain init" in raised.value.hint and "model.landmarks.names" in raised.value.hint
    assert read_text(tmp_path, text, 0).images[0].landmarks.shape == (6, 0, 3)


def test_a_line_with_another_number_of_landmarks_than_the_others(tmp_path):
    usual = f"10 20 30 44 {'1 2 1 ' * 5}\n" * 2
    for line, seems in ((f"1 2 3 4 {'1 2 1 ' * 6}", "22 numbers, a box and it seems 6 landmarks"),
                        ("10 20 30 44 1 2 1 4", "8 numbers, a box and it seems 1 landmark and 1 more")):  # fmt: skip
        [(number, _, message)] = problems_of(tmp_path, f"{HEADER}\n{usual}{line}\n")
        wanted = "a face line has 4 (a box) or 5 (with an ignore mark) or 19 to 21"
        assert (number, message) == (4, f"{seems}; the others have 5, so {wanted}")
    [(_, _, message)] = problems_of(tmp_path, f"{HEADER}\n10 20 30")
    assert message.startswith("3 numbers")


def test_a_model_without_landmarks_reads_the_box_and_nothing_behind_it(tmp_path):
    labels = read_text(tmp_path, f"{HEADER}\n1 2 3 4 {POINTS}\n1 2 3 5 nonsense here\n1 2 3 6 1\n", landmarks=0)
    assert not labels.problems
    assert labels.images[0].boxes.tolist() == [[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 6]]
    assert labels.images[0].ignore.tolist() == [False, False, True]
    assert labels.statistics.without_landmarks == 2


@pytest.mark.parametrize(
    "token", ["nan", "inf", "-inf", "1e400", "1e39", "16777217", "1_0", "1,5", "abc", "0x10", "--1"]
)
@pytest.mark.parametrize("column", [0, 3, 4, 6, 18])
def test_what_is_no_pixel_position(tmp_path, token, column):
    tokens = f"1 2 30 40 {POINTS}".split()
    tokens[column] = token
    text = f"{HEADER}\n5 6 7 8\n{' '.join(tokens)}\n9 9 10 10\n"
    labels = read_text(tmp_path, text)
    assert [(p.line, p.token) for p in labels.problems] == [(3, token)]
    assert labels.images[0].boxes.tolist() == [[5, 6, 7, 8], [9, 9, 10, 10]]


@pytest.mark.parametrize("token", ["nan", "inf", "yes", "1_0"])
def test_an_ignore_mark_must_be_a_number(tmp_path, token):
    assert [p[:2] for p in problems_of(tmp_path, f"{HEADER}\n1 2 3 4 {token}")] == [(2, token)]


@pytest.mark.parametrize("point", ["1 2 -1", "-1 2 -1", "1 -1 -1", "-1 -1 -2", "-1 -1 -0.5"])
def test_a_negative_third_number_belongs_to_a_missing_point_only(tmp_path, point):
    [(line, token, message)] = problems_of(tmp_path, f"{HEADER}\n1 2 3 4 {'-1 -1 -1 ' * 2}{point} {'5 6 1 ' * 2}")
    assert (line, token) == (2, point.split()[2])
    assert "-1 -1 -1" in message


@pytest.mark.parametrize("point", ["-1 -1 0", "-1 -1 1", "-5 3 0", "0 0 7"])
def test_a_third_number_from_zero_makes_any_point_usable(tmp_path, point):
    labels = read_text(tmp_path, f"{HEADER}\n1 2 3 4 {(point + ' ') * 5}")
    x, y, _ = map(float, point.split())
    assert labels.images[0].landmarks.tolist() == [[[x, y, 1]] * 5]


@pytest.mark.parametrize("box", ["5 5 5 9", "5 5 9 5", "9 5 5 9", "5 9 9 5", "0 0 0 0", "1 1 1.00000001 9"])
def test_boxes_without_area_are_left_out_and_counted(tmp_path, box):
    labels = read_text(tmp_path, f"{HEADER}\n{box}\n1 2 3 4\n{box} {POINTS}\n{box} 1\n# b.jpg 9 9\n{box}\n")
    assert not labels.problems
    assert [image.boxes.tolist() for image in labels.images] == [[[1, 2, 3, 4]], []]
    assert labels.statistics.boxes_without_area == 4
    assert (labels.statistics.faces, labels.statistics.images_without_faces) == (1, 1)
    assert "left out 4 boxes without area" in labels.statistics.summary()


# --- headers


@pytest.mark.parametrize(
    "header", ["# a.jpg 640 480", "#a.jpg 640 480", "  #   a.jpg\t640 480 and more", "# ./a.jpg 640 480"]
)
def test_headers(tmp_path, header):
    [image] = read_text(tmp_path, header).images
    assert (image.name, image.size) == ("a.jpg", (640, 480))
    assert image.boxes.shape == (0, 4)
    assert image.landmarks.shape == (0, 5, 3)


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("#", "#"),
        ("# a.jpg", "# a.jpg"),
        ("# a.jpg 640", "# a.jpg 640"),
        ("# a.jpg 640.0 480", "640.0"),
        ("# a.jpg 640 0", "0"),
        ("# a.jpg -640 480", "-640"),
        ("# a.jpg 6_4 480", "6_4"),
        ("# a.jpg ٦٤٠ 480", "٦٤٠"),
        ("# a.jpg 640 " + "9" * 5000, "9" * 5000),
        ("# /a.jpg 640 480", "/a.jpg"),
        (r"# \\server\a.jpg 640 480", r"\\server\a.jpg"),
        (r"# C:\a.jpg 640 480", r"C:\a.jpg"),
        ("# C:/a.jpg 640 480", "C:/a.jpg"),
        ("# ../a.jpg 640 480", "../a.jpg"),
        ("# b/../../a.jpg 640 480", "b/../../a.jpg"),
        (r"# b\..\..\a.jpg 640 480", r"b\..\..\a.jpg"),
        ("# . 640 480", "."),
        ("# a\0.jpg 640 480", "a\0.jpg"),
    ],
)
def test_bad_headers_lose_their_faces_and_nothing_else(tmp_path, header, token):
    labels = read_text(tmp_path, f"# first.jpg 9 9\n1 2 3 4\n{header}\n5 6 7 8\nnonsense\n# last.jpg 9 9\n2 2 3 4\n")
    assert [(p.line, p.token) for p in labels.problems] == [(3, token)]
    assert [(p.name, p.boxes.tolist()) for p in labels.images] == [
        ("first.jpg", [[1, 2, 3, 4]]),
        ("last.jpg", [[2, 2, 3, 4]]),
    ]


def test_a_blank_in_a_path_is_named(tmp_path):
    [(line, token, message)] = problems_of(tmp_path, "# my party/a.jpg 640 480\n1 2 3 4")
    assert (line, token) == (1, "party/a.jpg")
    assert "blank in the path" in message


def test_paths_written_on_windows(tmp_path):
    [image] = read_text(tmp_path, "# 0--Parade\\sub\\a.jpg 640 480").images
    assert image.name == "0--Parade/sub/a.jpg"
    assert image.path == tmp_path / "images" / "0--Parade" / "sub" / "a.jpg"


def test_faces_before_any_header_are_one_problem(tmp_path):
    labels = read_text(tmp_path, f"\n1 2 3 4\n1 2 3\n{HEADER}\n5 6 7 8\n")
    assert [(p.line, p.token) for p in labels.problems] == [(2, "1 2 3 4")]
    assert "before any header" in labels.problems[0].message
    assert labels.images[0].boxes.tolist() == [[5, 6, 7, 8]]


def test_a_repeated_header_starts_its_image_afresh(tmp_path):
    text = "# a.jpg 9 9\n1 2 3 4\n9 9 9 9\n# b.jpg 9 9\n2 2 3 4\n# ./a.jpg 8 8\n3 2 4 4 1\n"
    labels = read_text(tmp_path, text)
    assert not labels.problems
    assert [(p.name, p.size, p.boxes.tolist()) for p in labels.images] == [
        ("a.jpg", (8, 8), [[3, 2, 4, 4]]),
        ("b.jpg", (9, 9), [[2, 2, 3, 4]]),
    ]
    statistics = labels.statistics
    assert (statistics.images, statistics.faces, statistics.ignored, statistics.repeated_headers) == (2, 2, 1, 1)
    assert statistics.boxes_without_area == 0  # the one that there was is lost with the rest
    assert "1 repeated headers" in statistics.summary()


# --- the file


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_newlines_byte_order_mark_and_blank_lines(tmp_path, newline, mark):
    lines = [
        "",
        HEADER,
        "1 2 3 4",
        "  \t",
        f"5 6 7 8 {POINTS}",
        "",
        "# bü.jpg 9 9 \u2028\x0b\x85",
        "1 2 3",
    ]
    labels = read_text(tmp_path, mark + newline.join(lines).encode() + newline.encode())
    assert [(p.line, p.token) for p in labels.problems] == [(8, "1 2 3")]
    assert [(p.name, len(p.boxes)) for p in labels.images] == [("0--Parade/a.jpg", 2), ("bü.jpg", 0)]
    assert labels.statistics.blank_lines == 3
    assert labelv2.recognises(tmp_path / "labelv2.txt")


def test_bytes_that_are_not_utf8_are_placed(tmp_path):
    text = f"{HEADER}\n1 2 3 4\n# caf".encode() + b"\xe9.jpg 9 9\n1 2 3 4\n# b.jpg 9 9\n1 2 3 \xff\n2 2 3 4\n"
    labels = read_text(tmp_path, text)
    assert [(p.line, p.token) for p in labels.problems] == [(3, "café.jpg"), (6, "\udcff")]
    assert "UTF-8" in labels.problems[0].message
    assert [(p.name, len(p.boxes)) for p in labels.images] == [("0--Parade/a.jpg", 1), ("b.jpg", 1)]
    with pytest.raises(DataError) as raised:
        labels.raise_on_problems()
    raised.value.message.encode()  # can be printed


@pytest.mark.parametrize("content", ["", "\n", " \r\n\n", "\ufeff"])
def test_a_file_without_images(tmp_path, content):
    with pytest.raises(DataError, match=r"labelv2\.txt: no images"):
        read_text(tmp_path, content)
    assert not labelv2.recognises(tmp_path / "labelv2.txt")


def test_files_that_cannot_be_read_as_a_whole(tmp_path):
    with pytest.raises(DataError, match=r"absent\.txt: cannot be read"):
        labelv2.read(tmp_path / "absent.txt", tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        labelv2.read(tmp_path, tmp_path)
    with pytest.raises(DataError, match="git-lfs"):
        read_text(tmp_path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(DataError, match="UTF-16"):
        read_text(tmp_path, HEADER.encode("utf-16"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (HEADER, True),
        (f"\n\n  {HEADER}\n1 2 3 4", True),
        ("#a.jpg 1 2", True),
        ("# my party/a.jpg 640 480", True),  # a bad header, but this format's
        ("# a.jpg 0 480", True),
        ("# a comment", False),
        ("# a.jpg 640", False),
        ("0--Parade/a.jpg\n1\n1 2 3 4", False),
        ('{"images": []}', False),
        ("0 0.5 0.5 0.1 0.1", False),
        ("x" * 10000 + f"\n{HEADER}", False),
        (b"\xff\xd8\xff\xe0", False),
    ],
)
def test_recognises(tmp_path, content, expected):
    path = tmp_path / "some.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert labelv2.recognises(path) is expected


def test_recognises_no_folder_and_no_absent_file(tmp_path):
    assert not labelv2.recognises(tmp_path)
    assert not labelv2.recognises(tmp_path / "absent.txt")


# --- problems and statistics


def test_one_error_lists_the_first_problems_and_counts_the_rest(tmp_path):
    labels = read_text(tmp_path, HEADER + "\n1 2 3 nan" * 3 + "\n1 2 x 4" * 20 + "\n")
    with pytest.raises(DataError) as raised:
        labels.raise_on_problems()
    lines = raised.value.message.split("\n")
    assert lines[0] == "23 problems in the labels:"
    # in the file's order, although some are found line by line and others at the end
    assert [line.split(": ")[:2] for line in lines[1:-1]] == [
        [f"  {tmp_path / 'labelv2.txt'}:{number}", "'nan'" if number <= 4 else "'x'"] for number in range(2, 22)
    ]
    assert lines[-1] == "  and 3 more"
    with pytest.raises(DataError) as raised:
        labels.raise_on_problems(limit=23)
    assert "more" not in raised.value.message


def test_no_problems_raise_nothing_and_one_is_singular(tmp_path):
    read_text(tmp_path, HEADER).raise_on_problems()
    with pytest.raises(DataError, match=r"^1 problem in"):
        read_text(tmp_path, "1 2 3 4").raise_on_problems()


def test_long_lines_are_cut_in_messages(tmp_path):
    [problem] = read_text(tmp_path, f"{HEADER}\n{'x' * 100_000} 2 3 4\n").problems
    assert len(str(problem)) < 300 + len(str(tmp_path))
    assert "…" in str(problem)


def test_statistics(tmp_path):
    text = (
        f"{HEADER}\n1 2 3 4\n1 2 3 4 0\n1 2 3 4 1\n1 2 3 4 {POINTS}\n1 2 3 4 {MISSING}\n\n# b 9 9\n# c 9 9\n1 2 3 4 1\n"
    )
    statistics = read_text(tmp_path, text).statistics
    assert (statistics.images, statistics.images_without_faces) == (3, 1)
    assert (statistics.faces, statistics.with_landmarks, statistics.without_landmarks, statistics.ignored) == (
        6,
        1,
        3,
        2,
    )
    assert statistics.summary() == ("3 images (1 without faces), 6 faces: 1 with landmarks, 3 without, 2 ignored")


# --- a slow plain reader as oracle


def plain_read(text: str, landmarks: int) -> tuple[dict[str, list], set[int]]:
    """Faces by image as (box, points, ignored), and the numbers of the bad lines, one line after the other."""
    images: dict[str, list] = {}
    bad = set()
    faces: list | None = None
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if line.lstrip().startswith("#"):
            words = line.strip()[1:].split()
            faces = None
            if len(words) >= 3 and words[1].isdigit() and words[2].isdigit() and int(words[1]) and int(words[2]):
                faces = images[words[0]] = []
            else:
                bad.add(number)
        elif words and faces is not None:
            full = 4 + 3 * landmarks
            if full <= len(words) < full + 3 or (not landmarks and len(words) > 5):
                words = words[:full] if len(words) != 5 else words
            if len(words) not in (4, 5, full):
                bad.add(number)
                continue
            try:
                numbers = [float(word) for word in words]
            except ValueError:
                bad.add(number)
                continue
            points = [[-1.0, -1.0, 0.0]] * landmarks
            if len(words) > 5:
                triples = [numbers[i : i + 3] for i in range(4, full, 3)]
                if any(t[2] < 0 and t != [-1, -1, -1] for t in triples):
                    bad.add(number)
                    continue
                points = [[x, y, float(v >= 0)] for x, y, v in triples]
            if not all(map(math.isfinite, numbers)):
                bad.add(number)
            elif numbers[2] > numbers[0] and numbers[3] > numbers[1]:
                faces.append((numbers[:4], points, len(words) == 5 and numbers[4] == 1))
    return images, bad


def as_plain(labels: LabelFile) -> dict[str, list]:
    return {
        image.name: list(zip(image.boxes.tolist(), image.landmarks.tolist(), image.ignore.tolist(), strict=True))
        for image in labels.images
    }


def random_text(seed: int) -> str:
    """A file with everything in it, good and bad; numbers are quarters, so that float32 holds them."""
    random_ = random.Random(seed)

    def number() -> str:
        return random_.choice(["-1", "nan", "x"]) if random_.random() < 0.01 else f"{random_.randint(0, 400) / 4:g}"

    def point() -> str:
        return "-1 -1 -1" if random_.random() < 0.3 else " ".join(number() for _ in range(3))

    def line() -> str:
        kind = random_.random()
        if kind < 0.15:
            return f"# {random_.randint(0, 20)}.jpg {random_.randint(0, 30)} 7"
        if kind < 0.2:
            return ""
        numbers = [number() for _ in range(random_.choice([4, 4, 4, 5, 3, 7]))]
        return " ".join(
            numbers if kind < 0.5 else numbers[:4] + [point() for _ in range(random_.choice([5, 5, 5, 3, 6]))]
        )

    return "# start.jpg 5 5\n" + "\n".join(line() for _ in range(400))


@pytest.mark.parametrize("landmarks", [0, 5])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_plain_reader(tmp_path, seed, landmarks):
    text = random_text(seed)
    labels = read_text(tmp_path, text, landmarks)
    images, bad = plain_read(text, landmarks)
    assert as_plain(labels) == images
    assert {problem.line for problem in labels.problems} == bad
    assert len(bad) > 5


@pytest.mark.slow
def test_shared_files_equal_the_plain_reader(shared):
    for split in ("train", "val"):
        path = shared / "widerface/labelv2" / split / "labelv2.txt"
        labels = labelv2.read(path, shared / "images", default_names(5))
        images, bad = plain_read(path.read_text(), 5)
        assert not bad and not labels.problems
        ours = as_plain(labels)
        assert list(ours) == list(images)
        for name, faces in images.items():
            # as many in the same order, equal to what float32 holds
            assert [f[2] for f in ours[name]] == [f[2] for f in faces]
            for mine, plain in zip(ours[name], faces, strict=True):
                assert np.float32(plain[0]).tolist() == mine[0]
                assert np.float32(plain[1]).tolist() == mine[1]


def test_shared_files_hold_what_their_readme_says(shared):
    train = labelv2.read(shared / "widerface/labelv2/train/labelv2.txt", shared).statistics
    assert (train.images, train.images_without_faces, train.faces) == (2971, 1, 44813)
    assert (train.with_landmarks, train.without_landmarks, train.ignored) == (17761, 26333, 719)
    assert (train.boxes_without_area, train.repeated_headers, train.blank_lines) == (0, 0, 0)
    val = labelv2.read(shared / "widerface/labelv2/val/labelv2.txt", shared).statistics
    assert (val.images, val.faces, val.with_landmarks) == (400, 4157, 0)


def test_labels_are_read_without_torch():
    code = "import sys, facetrain.data.layout; print('torch' in sys.modules, 'cv2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
