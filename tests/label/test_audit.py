"""Labels in doubt: what is told of drawn errors, as a page and a list; and what the list does to the labels."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facetrain.cli.app import run_cli
from facetrain.core.errors import DataError, InputError, UsageError
from facetrain.core.faces import Faces, LabelledImage
from facetrain.core.images import read_image
from facetrain.data.formats import labelv2
from facetrain.data.landmark_names import FIVE
from facetrain.data.layout import load_split
from facetrain.data.sample_set.make import write_sample
from facetrain.label.audit import Doubts, Finding, audit, corrected
from facetrain.label.audit_list import COLUMNS, read_list, write_list

EYES = ("right_eye", "left_eye")


def labelled(boxes: list, ignore: list | None = None, points: list | None = None, name: str = "a.jpg") -> LabelledImage:
    count = len(boxes)
    landmarks = np.tile(np.float32([-1, -1, 0]), (count, 2, 1)) if points is None else np.float32(points)
    ignored = np.array(ignore or [False] * count, bool)
    return LabelledImage(Path(name), name, (200, 200), np.float32(boxes).reshape(count, 4), landmarks, ignored)


def faces(boxes: list, scores: list, points: list | None = None) -> Faces:
    count = len(boxes)
    landmarks = np.full((count, 2, 2), np.nan) if points is None else np.array(points)
    return Faces(np.float32(boxes).reshape(count, 4), np.float32(scores), landmarks.astype(np.float32))


def kinds(image: LabelledImage, found: Faces, **doubts: float) -> list[tuple[str, int]]:
    return [(f.kind, f.label) for f in audit([image], EYES, [found], EYES, Doubts(**doubts))]


def test_agreement_is_silence() -> None:
    image = labelled([[10, 10, 50, 50]], points=[[[20, 20, 1], [40, 20, 1]]])
    assert kinds(image, faces([[12, 10, 50, 52]], [0.9], [[[21, 21], [39, 20]]])) == []
    assert kinds(labelled([]), Faces.none(2)) == []


def test_each_kind_is_told_once() -> None:
    image = labelled(
        [[10, 10, 50, 50], [100, 100, 180, 180], [150, 10, 170, 30]],
        points=[[[20, 20, 1], [40, 20, 1]], [[-1, -1, 0]] * 2, [[-1, -1, 0]] * 2],
    )
    found = faces(
        [[12, 10, 50, 52], [60, 10, 90, 40], [151, 10, 170, 31]],
        [0.9, 0.8, 0.7],
        [[[40, 20], [20, 20]], [[70, 20], [80, 20]], [[155, 15], [165, 15]]],  # the first face's eyes exchanged
    )
    assert set(kinds(image, found)) == {("missing", -1), ("unseen", 1), ("landmarks", 0)}
    assert ("missing", -1) not in kinds(image, found, score=0.85)
    assert ("landmarks", 0) not in kinds(image, found, off=0.6)


def test_ignored_faces_raise_no_doubt() -> None:
    image = labelled([[10, 10, 90, 90]], [True])
    assert kinds(image, Faces.none(2)) == []
    assert kinds(image, faces([[20, 20, 40, 40], [85, 85, 115, 115]], [0.9, 0.9])) == [("missing", -1)]


def test_a_weak_detection_is_enough_to_be_seen() -> None:
    image = labelled([[10, 10, 50, 50]])
    assert kinds(image, faces([[12, 10, 50, 52]], [0.11])) == []


def test_a_face_that_reaches_over_the_border_is_cut_off() -> None:
    [only] = audit([labelled([])], EYES, [faces([[-5, 180, 20, 210], [210, 0, 230, 20]], [0.9, 0.9])], EYES, Doubts())
    assert only.box.tolist() == [0, 180, 20, 200]


def test_the_strangest_comes_first() -> None:
    images = [labelled([[0, 0, 20, 20]]), labelled([[0, 0, 160, 160]]), labelled([])]
    found = [Faces.none(2), Faces.none(2), faces([[0, 0, 9, 9], [20, 0, 60, 40]], [0.7, 0.95])]
    findings = audit(images, EYES, found, EYES, Doubts())
    assert [(f.image, round(f.strength, 2)) for f in findings] == [(2, 0.95), (1, 0.83), (2, 0.7), (0, 0.38)]


def test_landmarks_are_compared_by_name() -> None:
    image = labelled([[10, 10, 50, 50]], points=[[[20, 20, 1], [40, 20, 1]]])
    found = faces([[10, 10, 50, 50]], [0.9], [[[40, 20], [20, 20]]])
    assert audit([image], EYES, [found], ("LeftEye", "RightEye"), Doubts()) == []
    assert len(audit([image], EYES, [found], EYES, Doubts())) == 1
    assert audit([image], EYES, [found], ("chin", "nose"), Doubts()) == []


def finding(kind: str, box: list, label: int) -> Finding:
    return Finding(kind, 0, np.float32(box), label, 0.5, 0.5, "")  # type: ignore[arg-type]


def test_decisions_change_the_labels() -> None:
    image = labelled(
        [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]],
        points=[[[2, 2, 1], [8, 2, 1]], [[22, 2, 1], [28, 2, 1]], [[42, 2, 1], [48, 2, 1]]],
    )
    image = replace(image, hidden=np.array([[True, False]] * 3))
    decided = [
        (finding("missing", [60, 0, 70, 10], -1), "yes"),
        (finding("missing", [80, 0, 90, 10], -1), "ignore"),
        (finding("unseen", [0, 0, 10, 10], 0), "yes"),
        (finding("unseen", [20, 0, 30, 10], 1), "ignore"),
        (finding("landmarks", [40, 0, 50, 10], 2), "yes"),
    ]
    changed = corrected(image, decided)
    assert changed.boxes[:, 0].tolist() == [20, 40, 60, 80]
    assert changed.ignore.tolist() == [True, False, False, True]
    assert changed.landmarks[..., 2].tolist() == [[1, 1], [0, 0], [0, 0], [0, 0]]
    assert changed.hidden is not None
    assert changed.hidden.tolist() == [[True, False], [True, False], [False, False], [False, False]]
    same = corrected(image, [])
    assert np.array_equal(same.boxes, image.boxes)
    assert np.array_equal(same.landmarks, image.landmarks)


@pytest.fixture
def listed(tmp_path: Path) -> tuple[Path, list[LabelledImage]]:
    images = [labelled([[0.125, 0, 10, 10]]), labelled([[5, 5, 9, 9]], name="=cmd|' /C calc'!A0.jpg")]
    findings = [
        Finding("missing", 1, np.float32([1.23456, 2, 3, 4]), -1, 0.9, 0.9, ""),
        Finding("unseen", 0, np.float32([0.125, 0, 10, 10]), 0, 0.0, 0.2, ""),
    ]
    write_list(tmp_path / "list.csv", findings, images)
    return tmp_path / "list.csv", images


def decide(path: Path, *decisions: str, delimiter: str = ",", **changes: str) -> None:
    """Fill in the list as a spreadsheet would save it."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, decision in zip(rows, decisions, strict=True):
        row["decision"] = decision
    rows[-1] |= changes
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.DictWriter(file, COLUMNS, delimiter=delimiter)
        table.writeheader()
        table.writerows(rows)


def test_the_list_comes_back(listed: tuple[Path, list[LabelledImage]]) -> None:
    path, images = listed
    assert read_list(path, images) == {}
    # no cell is a formula to a spreadsheet
    assert not any(cell[:1] in "=+-@" for line in path.read_text().splitlines() for cell in line.split(",") if cell)
    empty = path.read_bytes()
    for delimiter in ",;":
        path.write_bytes(empty)
        decide(path, "yes", " Ignore", delimiter=delimiter)
        decided = read_list(path, images)
        [(missing, first)], [(unseen, second)] = decided[1], decided[0]
        assert (missing.kind, missing.label, first) == ("missing", -1, "yes")
        np.testing.assert_allclose(missing.box, [1.23, 2, 3, 4])
        assert (unseen.kind, unseen.label, second) == ("unseen", 0, "ignore")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"decision": "maybe"}, "list.csv:3: decision 'maybe'"),
        ({"image": "b.jpg"}, "list.csv:3: image 'b.jpg': not in the labels"),
        ({"kind": "odd"}, "list.csv:3: kind 'odd'"),
        ({"x1": "a"}, "list.csv:3: box and label must be numbers"),
        ({"x1": "nan"}, "list.csv:3: a box without area"),
        ({"label": "2"}, "list.csv:3: label 2: the image has 1"),
        ({"label": "0"}, "list.csv:3: label 0: the image has 1"),
        ({"x2": "11"}, "list.csv:3: label 1 of a.jpg is"),
    ],
)
def test_a_list_that_does_not_fit(listed: tuple[Path, list[LabelledImage]], changes: dict[str, str], said: str) -> None:
    path, images = listed
    decide(path, "", "yes", **changes)
    with pytest.raises(DataError) as caught:
        read_list(path, images)
    assert said in caught.value.message


def test_what_is_no_list(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    with pytest.raises(InputError, match="cannot be read"):
        read_list(path, [])
    for content, said in ((b"a,b\n1,2\n", "no column"), (b"\xff\xfe", "not UTF-8"), (b"", "no column")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=said):
            read_list(path, [])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit") / "set"
    write_sample(folder, train=6, val=2)
    return folder


@pytest.fixture
def spoilt(drawn: Path, tmp_path: Path) -> tuple[Path, LabelledImage, LabelledImage]:
    """The drawn set with a label taken away and one put where no face is: data, first image, second image."""
    data = tmp_path / "set"
    shutil.copytree(drawn, data)
    images = list(load_split(data, "train", FIVE).images)
    [first, second, *_] = [number for number, image in enumerate(images) if len(image.boxes) and (~image.ignore).any()]
    largest = int((images[first].boxes[:, 2:] - images[first].boxes[:, :2]).min(1).argmax())
    lost = images[first].boxes[largest]
    stay = np.arange(len(images[first].boxes)) != largest
    spoilt = replace(
        images[first],
        boxes=images[first].boxes[stay],
        landmarks=images[first].landmarks[stay],
        ignore=images[first].ignore[stay],
    )
    extra = finding("missing", [1, 1, 60, 60], -1)
    images[first], images[second] = spoilt, corrected(images[second], [(extra, "yes")])
    labelv2.write(data / "labelv2/train/labelv2.txt", images, FIVE)
    return data, replace(spoilt, boxes=lost[None]), images[second]


def test_drawn_errors_are_found_decided_and_corrected(spoilt, tmp_path: Path, capsys) -> None:
    data, first, second = spoilt
    line = ["data", "audit", str(data), "--weights", "yunet_n"]
    assert run_cli([*line, "--report", str(tmp_path / "doubts"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    found = {(f["image"], f["kind"]): f for f in document["findings"]}
    missing, unseen = found[first.name, "missing"], found[second.name, "unseen"]
    assert np.abs(np.array(missing["box"]) - first.boxes[0]).max() < 0.3 * (first.boxes[0, 2] - first.boxes[0, 0])
    assert unseen["box"] == [1, 1, 60, 60]
    page = (tmp_path / "doubts/index.html").read_text()
    shown = [tmp_path / "doubts" / part.split('"')[0] for part in page.split('src="')[1:]]
    assert len(shown) == len(document["findings"])
    assert all(read_image(path).shape == (256, 256, 3) for path in shown)
    assert run_cli(line) == 0
    assert first.name in capsys.readouterr().out
    table = tmp_path / "doubts/findings.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = {(first.name, "missing"), (second.name, "unseen")}
    decide(table, *("yes" if (row["image"], row["kind"]) in wanted else "" for row in rows))
    # what was filled in is not lost
    assert run_cli([*line, "--report", str(tmp_path / "doubts")]) == 2
    assert "holds decisions" in capsys.readouterr().err
    before = (data / "labelv2/train/labelv2.txt").read_bytes()
    apply = ["data", "audit", str(data), "--apply", str(table)]
    assert run_cli([*apply, "--to", str(data / "new")]) == 0
    assert (data / "labelv2/train/labelv2.txt").read_bytes() == before
    assert run_cli([*apply, "--to", str(data / "WIDER_train/images/new")]) == 2
    assert run_cli([*apply, "--to", str(tmp_path / "to")]) == 0
    after = {image.name: image for image in load_split(tmp_path / "to", "train", FIVE).images}
    assert all(image.path.is_file() for image in after.values())
    assert [1, 1, 60, 60] not in after[second.name].boxes.tolist()
    assert len(after[second.name].boxes) == len(second.boxes) - 1
    assert any(np.allclose(box, missing["box"], atol=0.01) for box in after[first.name].boxes.tolist())


def test_names_are_text_on_the_page(drawn: Path, tmp_path: Path) -> None:
    data = tmp_path / "set"
    shutil.copytree(drawn, data)
    [image, *_] = [some for some in load_split(data, "train", FIVE).images if len(some.boxes)]
    name = "<script>alert(1)<script>.jpg"
    shutil.copy(image.path, data / "WIDER_train/images" / name)
    far = finding("missing", [1, 1, 60, 60], -1)
    odd = corrected(replace(image, name=name), [(far, "yes")])
    labelv2.write(data / "labelv2/train/labelv2.txt", [odd], FIVE)
    assert run_cli(["data", "audit", str(data), "--report", str(tmp_path / "doubts")]) == 0
    page = (tmp_path / "doubts/index.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_wrong_usage(drawn: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/mine.txt").write_text("mine")
    for line, said in (
        (["--report", str(tmp_path / "other")], "holds something else"),
        (["--apply", "list.csv"], "--apply and --to belong together"),
        (["--split", "test"], "--split test"),
        (["--score", "0.01"], "--score 0.01"),
        (["--off", "0"], "--off 0"),
    ):
        assert run_cli(["data", "audit", str(drawn), *line]) == 2, line
        assert said in capsys.readouterr().err
    with pytest.raises(UsageError):
        Doubts(score=2)
