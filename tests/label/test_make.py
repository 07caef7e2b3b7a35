"""A folder of images becomes a set to train on: whole, going on where it was interrupted, and never beside a source."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from facetrain.cli.app import run_cli
from facetrain.core.errors import DataError, UsageError
from facetrain.core.faces import Faces
from facetrain.core.images import write_image
from facetrain.data.landmark_names import FIVE
from facetrain.data.layout import load_split
from facetrain.data.sample_set.make import draw_image
from facetrain.label.labels import Thresholds, labels_of
from facetrain.label.look import Looks, Observers
from facetrain.label.make import label_images

FOUND = Thresholds(0.6, 0.3)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four drawn images in two folders, the last without a face."""
    folder = tmp_path_factory.mktemp("images")
    for number, name in enumerate(("a.jpg", "b.png", "more/a.jpg")):
        (folder / name).parent.mkdir(exist_ok=True)
        write_image(folder / name, draw_image(0, 1, number + 2)[0])
    write_image(folder / "more/empty.png", np.full((64, 48, 3), 90, np.uint8))
    return folder


@pytest.fixture
def images(drawn: Path, tmp_path: Path) -> Path:
    shutil.copytree(drawn, tmp_path / "images")
    return tmp_path / "images"


@pytest.fixture(scope="module")
def observers() -> Observers:
    return Observers(["yunet_n"], Looks(flip=True))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_images_become_a_set_to_train_on(images: Path, tmp_path: Path, observers: Observers) -> None:
    before = contents(images)
    made = label_images(images, tmp_path / "to", observers, FOUND)
    assert contents(images) == before
    labels = load_split(tmp_path / "to", "train", FIVE)
    assert [image.name for image in labels.images] == ["a.jpg", "b.png", "more/a.jpg", "more/empty.png"]
    assert all(image.path.is_symlink() and image.path.is_file() for image in labels.images)
    assert labels.statistics == made.statistics
    assert labels.statistics.with_landmarks > 3
    assert labels.statistics.images_without_faces == 1
    for image in labels.images:  # nothing leaves its image
        assert image.boxes.min(initial=0) >= 0
        assert (image.boxes[:, 2:] <= image.size).all()
    entries = [json.loads(line) for line in made.journal.read_text().splitlines()]
    assert [entry["name"] for entry in entries[1:-1]] == [image.name for image in labels.images]
    for entry, image in zip(entries[1:-1], labels.images, strict=True):
        kept = [face for face in entry["faces"] if face["score"] >= 0.3]
        assert [face["score"] < 0.6 for face in kept] == image.ignore.tolist()


def test_copies_in_place_of_links(images: Path, tmp_path: Path, observers: Observers) -> None:
    label_images(images, tmp_path / "to", observers, FOUND, copy=True)
    place = tmp_path / "to/train/images"
    assert contents(place) == contents(images)
    assert not any(path.is_symlink() for path in place.rglob("*"))


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize("torn", [False, True])
def test_interrupted_and_gone_on_equals_never_interrupted(
    images: Path, tmp_path: Path, observers: Observers, stop: int, torn: bool
) -> None:
    label_images(images, tmp_path / "whole", observers, FOUND, copy=True)

    def interrupt(done: int, total: int, name: str) -> None:
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label_images(images, tmp_path / "to", observers, FOUND, copy=True, progress=interrupt)
    journal = tmp_path / "to/train/detections.jsonl"
    if torn:
        content = journal.read_bytes()
        journal.write_bytes(content[:-7])
    made = label_images(images, tmp_path / "to", observers, FOUND, copy=True)
    assert made.looked == 4 - stop + torn
    assert contents(tmp_path / "to") == contents(tmp_path / "whole")
    again = label_images(images, tmp_path / "to", observers, FOUND, copy=True)
    assert again.looked == 0
    assert contents(tmp_path / "to")["train/labelv2.txt"] == contents(tmp_path / "whole")["train/labelv2.txt"]


def test_an_image_that_changed_is_looked_at_again(images: Path, tmp_path: Path, observers: Observers) -> None:
    label_images(images, tmp_path / "to", observers, FOUND)
    write_image(images / "a.jpg", draw_image(0, 1, 9)[0])
    write_image(images / "new.jpg", draw_image(0, 1, 10)[0])
    made = label_images(images, tmp_path / "to", observers, FOUND)
    assert made.looked == 2
    assert made.statistics.images == 5


def test_labels_that_were_corrected_are_not_replaced(images: Path, tmp_path: Path, observers: Observers) -> None:
    made = label_images(images, tmp_path / "to", observers, FOUND)
    made.labels.write_text(made.labels.read_text() + "# mine.jpg 9 9\n")
    before = contents(tmp_path / "to")
    with pytest.raises(UsageError, match="was changed"):
        label_images(images, tmp_path / "to", observers, FOUND)
    assert contents(tmp_path / "to") == before


def test_a_folder_of_other_detectors_is_refused(images: Path, tmp_path: Path, observers: Observers) -> None:
    label_images(images, tmp_path / "to", observers, FOUND)
    with pytest.raises(UsageError, match="begun with other weights, or looked at images in another way"):
        label_images(images, tmp_path / "to", Observers(["yunet_n"]), FOUND)


@pytest.mark.parametrize("place", [".", "labels", "more/labels", ".."])
def test_nothing_is_written_beside_a_source(images: Path, observers: Observers, place: str) -> None:
    before = contents(images)
    with pytest.raises(UsageError, match="lies within"):
        label_images(images, images / place, observers, FOUND)
    assert contents(images) == before


def test_unreadable_images_are_named_and_the_rest_goes_on(images: Path, tmp_path: Path, capsys) -> None:
    (images / "broken.jpg").write_bytes(b"no image")
    line = ["data", "label", str(images), "--to", str(tmp_path / "to")]
    assert run_cli([*line, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["images"], document["looked"]) == (4, 4)
    assert [Path(error["path"]).name for error in document["errors"]] == ["broken.jpg"]
    (images / "broken.jpg").unlink()
    assert run_cli(line) == 0
    assert "4 images known from an earlier call" in capsys.readouterr().out


def test_names_with_blanks_are_counted(images: Path, tmp_path: Path, observers: Observers) -> None:
    (images / "a.jpg").rename(images / "holiday 1.jpg")
    made = label_images(images, tmp_path / "to", observers, FOUND)
    assert made.lost == {"images whose names have blanks, left out": 1}
    assert made.statistics.images == 3


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (["--score", "0.2"], 2, "--score 0.2: must be from --ignore-score, 0.3, to 1"),
        (["--ignore-score", "0"], 2, "--ignore-score 0: must be above 0"),
        (["--scales", "a"], 2, "--scales a: not numbers"),
        (["--weights", "none.onnx"], 2, "none.onnx"),
    ],
)
def test_wrong_usage(images: Path, tmp_path: Path, capsys, line: list[str], code: int, said: str) -> None:
    assert run_cli(["data", "label", str(images), "--to", str(tmp_path / "to"), *line]) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


def test_no_images(tmp_path: Path, observers: Observers) -> None:
    (tmp_path / "none").mkdir()
    for folder, said in (("none", "no images in this folder"), ("absent", "no such folder")):
        with pytest.raises((DataError, UsageError), match=said):
            label_images(tmp_path / folder, tmp_path / "to", observers, FOUND)


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"name": 1}', '{"name": "a.jpg", "bytes": 1, "width": 1, "height": 1, "faces": [{"box": [1]}]}'],
)
def test_a_journal_that_was_edited(images: Path, tmp_path: Path, observers: Observers, line: str) -> None:
    made = label_images(images, tmp_path / "to", observers, FOUND)
    lines = made.journal.read_text().splitlines()
    made.journal.write_text("\n".join([lines[0], line, *lines[2:]]) + "\n")
    with pytest.raises(DataError, match=r"detections\.jsonl:2: not"):
        label_images(images, tmp_path / "to", observers, FOUND)


def test_labels_of_what_was_found() -> None:
    faces = Faces(
        np.float32([[-4, 2, 10, 12], [5, 5, 15, 15], [1, 1, 2, 2], [30, 30, 40, 40]]),
        np.float32([0.9, 0.5, 0.2, 0.95]),
        np.float32([[[3, 4], [-1, 4]], [[6, 6], [8, 8]], [[0, 0]] * 2, [[np.nan, np.nan]] * 2]),
    )
    image = labels_of(Path("a"), "a", (20, 20), faces, FOUND)
    assert image.boxes.tolist() == [[0, 2, 10, 12], [5, 5, 15, 15]]  # the third is weak, the fourth outside
    assert image.ignore.tolist() == [False, True]
    assert image.landmarks.tolist() == [[[3, 4, 1], [-1, -1, 0]], [[-1, -1, 0]] * 2]
    assert image.scores is not None
    assert image.scores.tolist() == pytest.approx([0.9, 0.5])
