"""`data check`: what it counts, what it finds, when it ends with 1, and its page."""

import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facetrain.cli.app import run_cli
from facetrain.config.schema import DataConfig, LandmarksConfig
from facetrain.core.documents.check import CheckDocument
from facetrain.core.documents.common import Header
from facetrain.core.images import read_image, write_image
from facetrain.data.check.crops_sheet import _mirror
from facetrain.data.check.survey import survey
from facetrain.data.crops import crop_faces, draw_crop
from facetrain.data.layout import load_split
from facetrain.data.sample_set.make import write_sample
from tests.data.plausibility.drawn_labels import NAMES, correct, in_convention
from tests.documents.fields import hints, misfits


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "data"
    write_sample(folder, train=12, val=6)
    return folder


@pytest.fixture
def data(drawn: Path, tmp_path: Path) -> Path:
    shutil.copytree(drawn, tmp_path / "data")
    return tmp_path / "data"


def check(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert run_cli(["data", "check", *arguments, "--json"]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    header = {name: document.pop(name) for name in hints(Header)}
    assert misfits(header, Header) == misfits(document, CheckDocument) == []
    return document


def labels_of(data: Path, part: str) -> Path:
    return data / "labelv2" / part / "labelv2.txt"


def test_a_good_set(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = check(capsys, str(data))
    assert (document["errors"], document["absent"], document["in_both"]) == ([], {}, [])
    for part, count in (("train", 12), ("val", 6)):
        labels = load_split(data, part, NAMES)
        found = document[part]["survey"]
        assert (found["images"], found["faces"]) == (count, labels.statistics.faces - labels.statistics.ignored)
        assert found["with_landmarks"] == labels.statistics.with_landmarks
        assert found["ignored"] == labels.statistics.ignored
        assert list(found["landmarks"]) == list(NAMES)
        for name, total in (("face_sides", found["faces"]), ("faces_per_image", count), ("image_sides", count)):
            assert sum(bar["count"] for bar in found["histograms"][name]) == total
        assert document[part]["unlabelled"] == len(document[part]["twice"]) == 0
    assert run_cli(["data", "check", str(data)]) == 0
    out = capsys.readouterr().out
    assert out.endswith("no errors: it can be trained on and measured with\n")
    assert max(len(line) for line in out.splitlines() if str(data) not in line) <= 80


def test_everything_that_is_wrong_is_told_at_once(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, val = (load_split(data, part, NAMES).images for part in ("train", "val"))
    train[0].path.write_bytes(b"no image")
    train[1].path.unlink()
    write_image(train[2].path.parent / "more.png", read_image(train[2].path))
    shutil.copy(train[3].path, train[4].path)
    shutil.copy(train[3].path, val[0].path)
    path = labels_of(data, "val")
    lines = path.read_text().splitlines()
    lines[1:1] = ["1 2 x 4", *["-900 10 -860 60"] * 30]
    path.write_text("\n".join(lines) + "\n")
    document = check(capsys, str(data), code=1)
    messages = [error["message"] for error in document["errors"]]
    for words in (
        "not an image",
        "1 of 12 labelled images are not there",
        "boxes miss their image",
        "'x': not a number",
    ):
        assert sum(words in message for message in messages) == 1, (words, messages)
    assert any("1 of 6 validation images are training images too" in message for message in messages)
    assert document["in_both"] == [[str(val[0].path), str(train[3].path)]]
    assert document["train"]["twice"] == [[train[3].name, train[4].name]]
    assert document["train"]["unlabelled"] == 1
    [kind] = [kind for kind in document["val"]["found"]["kinds"] if kind["kind"] == "misses"]
    assert kind["count"] == 30
    assert run_cli(["data", "check", str(data)]) == 1
    captured = capsys.readouterr()
    assert "boxes miss their image" in captured.err
    assert "refused" in captured.out and "mend them first" in captured.out
    assert max(len(line) for line in captured.out.splitlines() if str(data) not in line) <= 80


@pytest.mark.parametrize("convention", ["xywh", "cxcywh-shares", "yxyx", "xyxy-percent"])
def test_another_convention(tmp_path: Path, capsys: pytest.CaptureFixture[str], convention: str) -> None:
    images = correct(0, 30, points=False)
    written, flat = in_convention(images, convention)
    lines = []
    for one, other in zip(written, flat, strict=True):
        assert one.size is not None
        lines.append(f"# {one.name} {one.size[0]} {one.size[1]}")
        lines += [" ".join(f"{v:.6g}" for v in box) for box in (*one.boxes, *other.boxes)]
    (tmp_path / "set/train/images").mkdir(parents=True)
    (tmp_path / "set/train/labelv2.txt").write_text("\n".join(lines))
    document = check(capsys, "set", code=1)
    assert any(f"--boxes {convention} --to NEW" in (error["hint"] or "") for error in document["errors"])
    assert "val" in document["absent"]


def test_landmarks_without_names_that_the_model_has_not(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a model that was named it is an error, as in training; of any other a note."""
    path = labels_of(data, "train")
    lines = path.read_text().splitlines()
    again = [" ".join([*line.split(), *line.split()[-6:]]) if len(line.split()) == 19 else line for line in lines]
    path.write_text("\n".join(again))
    said = f"{path}: 7 landmarks a face, without names, where the model has 5"
    document = check(capsys, str(data))
    [note] = document["train"]["notes"]
    assert note.startswith(said) and "facetrain init" in note
    assert document["val"]["notes"] == []
    document = check(capsys, str(data), "--config", "yunet_s", code=1)
    assert [error["message"] for error in document["errors"]] == [said]
    (tmp_path / "none.yaml").write_text("model: {landmarks: {names: [], mirror: []}}\n")
    assert check(capsys, str(data), "--config", "none.yaml")["train"]["notes"] == []


def test_nothing_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert run_cli(["data", "check", "empty"]) == 2
    assert run_cli(["data", "check", "absent"]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_small_in_crops_is_what_crops_show() -> None:
    images, config = correct(1, 40), DataConfig(size=160, crop_scales=(0.5, 1.0, 1.5))
    found = survey(images, NAMES, config)
    small = []
    for number, image in enumerate(images):
        for position in range(60):
            crop = draw_crop(image, number, config, 0, 0, position)
            boxes, _, _ = crop_faces(image, crop, config.size, False)
            inside = (boxes > 0).all(1) & (boxes < config.size).all(1)  # cut ones are smaller
            small += ((boxes[inside, 2:] - boxes[inside, :2]).min(1) < 8).tolist()
    assert 0.05 < found.often_small < 0.9
    # windows are drawn around faces, which large windows hold more of: the shares are near each other and not equal
    assert abs(np.mean(small) - found.often_small) < 0.15
    assert found.always_small <= found.often_small
    assert survey([], NAMES, config).as_dict()["face_side_percentiles"] == []


def test_mirrored_landmarks_by_their_names() -> None:
    assert _mirror(LandmarksConfig().names).tolist() == [1, 0, 2, 4, 3]
    assert _mirror(["nose", "Left_Eye", "right_eye", "p"]).tolist() == [0, 2, 1, 3]
    assert _mirror([]).tolist() == []


class Links(HTMLParser):
    """The files that a page shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.files: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.files |= {value for name, value in attrs if name in ("src", "href") and value}


def test_the_page(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = load_split(data, "val", NAMES).images[0]
    evil = image.path.with_name("<script>alert(1)<img>.jpg")
    write_image(evil, read_image(image.path))
    path = labels_of(data, "val")
    name = f"{Path(image.name).parent}/{evil.name}"
    path.write_text(path.read_text() + f"# {name} {image.size[0]} {image.size[1]}\n-900 10 -860 60\n20 20 60 70\n")  # type: ignore[index]
    assert run_cli(["data", "check", str(data), "--report", "page"]) == 0
    text = (tmp_path / "page/index.html").read_text()
    assert "<script>" not in text and "&lt;script&gt;" in text
    for words in ("Faces by shorter side", "Training crops", "val: what looks wrong", "train: labels"):
        assert words in text
    links = Links(text).files
    there = {str(file.relative_to(tmp_path / "page")) for file in (tmp_path / "page").rglob("*.jpg")}
    assert links == there
    sheet = read_image(tmp_path / "page/crops.jpg")
    assert sheet.shape == (6 * 320, 6 * 320, 3)
    # crops of one image in two epochs are two crops
    assert np.abs(sheet[:320, :320].astype(int) - sheet[:320, 320:640]).mean() > 5
    assert run_cli(["data", "check", str(data), "--report", "page"]) == 0  # replaced
    (tmp_path / "page/mine.txt").write_text("")
    assert run_cli(["data", "check", str(data), "--report", "page"]) == 2
    capsys.readouterr()


def test_it_starts_without_torch(data: Path) -> None:
    code = (
        "import sys; from facetrain.cli.app import run_cli; code = run_cli(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "data", "check", str(data)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
