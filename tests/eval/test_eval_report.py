"""The report says what was measured, shows the worst images, escapes names, and is written whole or not at all."""

import os
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest

from facetrain.core.errors import OutputError, UsageError
from facetrain.core.faces import Faces, LabelledImage
from facetrain.core.images import read_image, write_image
from facetrain.eval.labelled import labelled_benchmark
from facetrain.eval.report import page as words
from facetrain.eval.report import write as report

Material = tuple[list[Faces], list[LabelledImage]]
FACE, ELSEWHERE, IGNORED = (100, 100, 200, 220), (300, 50, 360, 110), (20, 20, 60, 60)
_VOID = {"meta", "img", "br", "source", "wbr"}


class Page(HTMLParser):
    """Reads a page strictly: tags must close in order. Keeps its links, its text and the text of each section."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in _VOID:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset") and value]
        assert tag != "img" or dict(attrs)["alt"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if self.open[-1:] != ["style"] else ""

    def section(self, heading: str) -> str:
        """What stands below a heading of a contact sheet."""
        return self.text.split(heading)[1].split("Most ")[0]


def labelled(path: Path, boxes: list, *, ignore: int = 0, landmarks: int = 0, name: str | None = None) -> LabelledImage:
    marks = np.arange(len(boxes)) >= len(boxes) - ignore
    array = np.array(boxes, np.float32).reshape(-1, 4)
    points = np.ones((len(boxes), landmarks, 3), np.float32)
    return LabelledImage(path, name or path.name, None, array, points, marks)


def found(*rows: tuple, landmarks: int = 0) -> Faces:
    array = np.array(rows, np.float32).reshape(-1, 5)
    return Faces(array[:, :4], array[:, 4], np.full((len(rows), landmarks, 2), 3, np.float32))


def material(folder: Path) -> Material:
    """Images 0 to 4: fine; a miss; a miss and a false alarm; three misses but unreadable; fine and not even there."""
    results = []
    for number in range(5):
        path = folder / f"{number}.png"
        if number < 3:
            write_image(path, np.full((300, 600, 3), 90, np.uint8))
        boxes = [FACE, IGNORED]
        faces = found((*FACE, 0.9), (*IGNORED, 0.8))
        if number == 1:
            faces = found((*FACE, 0.3))
        if number == 2:
            faces = found((*ELSEWHERE, 0.67))
        if number == 3:
            path.write_text("no image")
            boxes, faces = [FACE, ELSEWHERE, (400, 0, 450, 50), IGNORED], found()
        results.append((faces, labelled(path, boxes, ignore=1, name=f"a<b>/&_{number}.png")))
    return [faces for faces, _ in results], [image for _, image in results]


def write(folder: Path, results: Material, **settings: object) -> Path:
    faces, images = results
    scores = labelled_benchmark(images).score(faces)
    given = {
        "title": "mine <v2>",
        "protocol": {"size": "original", "note": "<i>{{ 7 * 7 }}", "flip": False, "scales": [0.5, 1.0], "limit": None},
        "scores": scores,
        "details": scores.details(),
        "intervals": {},
    }
    return report.write_report(folder, **{**given, **settings})


def test_a_section_is_a_change_of_the_template_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    template = (Path(words.__file__).parent / "page.html").read_text(encoding="utf-8")
    section = '<section><h2>Crowds</h2><p>{{ details.faces | count("face") }} in {{ title }}</p></section>'
    changed = template.replace("{% block body %}", f"{{% block body %}}{section}")
    (tmp_path / "page.html").write_text(changed, encoding="utf-8")
    monkeypatch.setattr(words, "_FOLDER", tmp_path)
    assert "Crowds" in Page(path := write(tmp_path / "report", material(tmp_path))).text
    assert "7 faces in mine &lt;v2&gt;" in path.read_text(encoding="utf-8")


def test_everything_is_there_and_escaped(tmp_path: Path) -> None:
    path = write(tmp_path / "out" / "report", material(tmp_path))
    assert path == tmp_path / "out" / "report" / "index.html"
    page = Page(path)
    for text in ("mine <v2>", "a<b>/&_1.png", "5 images, 7 faces to find", "0.5, 1.0", "flipno", "limit–"):
        assert text in page.text
    assert "<i>{{ 7 * 7 }}" in page.text  # neither HTML nor the template's language
    assert "At a score of 0.5 the detector finds 28.6% of the faces." in page.text
    assert "66.7% of its detections are right; 0.20 false alarms per image" in page.text
    assert "For a precision of 0.95, keep what scores at least 0.8: that finds 28.6%" in page.text
    assert "The labels have no landmarks." in page.text
    links = [path.parent / link for link in page.links]
    assert all(link.is_file() and link.resolve().is_relative_to(path.parent.resolve()) for link in links)
    assert {link for link in links if "images" in link.parts} == set((path.parent / "images").iterdir())
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "picture" in page.tags  # the one element whose source a browser chooses by light and dark
    assert not any(urlparse(link).scheme for link in page.links)
    assert os.fspath(tmp_path) not in path.read_text(encoding="utf-8")


def test_the_sheets_show_the_worst_first(tmp_path: Path) -> None:
    page = Page(write(tmp_path / "report", material(tmp_path)))
    missed, wrong = page.section("Most faces missed"), page.section("Most false alarms")
    assert "1 of 1 face missed (1 with a lower score), 0 false alarmsa<b>/&_1.png" in missed
    assert "1 of 1 face missed, 1 false alarma<b>/&_2.png" in missed
    assert missed.index("_1.png") < missed.index("_2.png")
    assert "_2.png" in wrong
    assert "_1.png" not in wrong
    assert "_0.png" not in missed + wrong
    assert "a<b>/&_3.png: not an image" in page.section("Images that cannot be shown")
    one = Page(write(tmp_path / "one", material(tmp_path), worst=1))
    assert "_3.png" in one.text  # the one that counts is the unreadable one; no other takes its place
    assert "_1.png" not in one.text
    none = Page(write(tmp_path / "none", material(tmp_path), worst=0))
    assert "None to show." in none.section("Most faces missed")


def test_only_images_that_are_shown_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(report, "read_image", lambda path: (read.append(path.name), read_image(path))[1])
    write(tmp_path / "report", material(tmp_path))
    assert sorted(read) == ["1.png", "2.png", "3.png"]  # number 2 once, though it is on both sheets


def test_what_is_drawn(tmp_path: Path) -> None:
    boxes = [FACE, ELSEWHERE, IGNORED]
    file = tmp_path / "a.png"
    write_image(file, np.full((300, 600, 3), 90, np.uint8))
    faces = found((*FACE, 0.9), (400, 150, 500, 250, 0.8), (450, 20, 500, 70, 0.2))
    page = write(tmp_path / "report", ([faces], [labelled(file, boxes, ignore=1)]))
    for name, factor in (("00000.jpg", 640 / 600), ("00000-small.jpg", 480 / 600)):
        image = read_image(page.parent / "images" / name).astype(int)
        assert image.shape == (round(300 * factor), round(600 * factor), 3)

        def near(x: float, y: float, image: np.ndarray = image, factor: float = factor) -> np.ndarray:
            """The most colourful pixel within three of a place."""
            column, row = round(x * factor), round(y * factor)
            patch = image[row - 3 : row + 4, column - 3 : column + 4].reshape(-1, 3)
            return patch[np.abs(patch - 90).sum(1).argmax()]

        blue, green, red = near(FACE[0], 160)
        assert green > 150 > max(blue, red)
        blue, green, red = near(ELSEWHERE[0], 80)
        assert red > 180 > max(blue, green) + 60
        blue, green, red = near(400, 200)
        assert min(red, green) > 150 > blue + 60
        assert np.ptp(near(IGNORED[0], 40)) < 30
        assert near(IGNORED[0], 40).min() > 110
        assert np.abs(near(450, 45) - 90).max() < 15  # below the score


@pytest.mark.parametrize(
    ("width", "height", "large"), [(3, 2, 640), (900, 300, 900), (1400, 20, 1280), (20, 1400, 1280)]
)
def test_images_of_any_size(tmp_path: Path, width: int, height: int, large: int) -> None:
    write_image(tmp_path / "a.png", np.full((height, width, 3), 90, np.uint8))
    boxes = [(0, 0, 1, 1), (-50, -1e6, 1e7, 3), (5, 5, 1, 1)]
    faces = found((1, 1, 1.5, 1.5, 0.9), (-1e9, 0, 1e9, 2, 0.8), (np.nan, 0, 2, np.inf, 0.7))
    page = write(tmp_path / "report", ([faces], [labelled(tmp_path / "a.png", boxes, ignore=1)]))
    shapes = {path.name: read_image(path).shape for path in (page.parent / "images").iterdir()}
    assert max(shapes["00000.jpg"]) == large
    assert shapes["00000-small.jpg"][1] <= 480
    assert shapes["00000-small.jpg"][0] <= 640
    tag = 'width="{1}" height="{0}"'.format(*shapes["00000-small.jpg"])
    assert tag in page.read_text(encoding="utf-8")


def test_many_false_alarms_are_not_hidden_by_their_scores(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.full((480, 480, 3), 90, np.uint8))
    grid = [(20 * x, 20 * y, 20 * x + 9, 20 * y + 9, 0.9) for x in range(24) for y in range(24)]
    page = write(tmp_path / "report", ([found(*grid)], [labelled(tmp_path / "a.png", [])]))
    small = read_image(page.parent / "images" / "00000-small.jpg")
    assert (small.max(2) < 40).mean() < 0.01  # no black plates


def test_landmarks_and_missing_values(tmp_path: Path) -> None:
    image = labelled(tmp_path / "a.png", [FACE], landmarks=5)
    results = [found((*FACE, 0.9), landmarks=5)], [image]
    page = Page(write(tmp_path / "report", results))
    assert "1.0000AP all" in page.text
    assert "over 1 face found" in page.text
    assert "right eye 2.6%, left eye 2.6%, nose 2.6%" in page.text
    assert "The detections have no landmarks" in Page(write(tmp_path / "none", ([found((*FACE, 0.9))], [image]))).text
    nothing = Page(write(tmp_path / "nothing", ([found()], [labelled(tmp_path / "a.png", [IGNORED], ignore=1)])))
    assert "–AP all" in nothing.text
    assert "finds – of the faces" in nothing.text
    assert "No threshold reaches a precision of 0.95" in nothing.text
    assert "None to show." in nothing.section("Most false alarms")
    assert "0 images" in Page(write(tmp_path / "empty", ([], []))).text


def test_replaces_an_earlier_report_and_nothing_else(tmp_path: Path) -> None:
    results = material(tmp_path)
    page = write(tmp_path / "report", results)
    (page.parent / "images" / "left.jpg").write_bytes(b"x")
    (page.parent / ".DS_Store").write_bytes(b"x")
    (page.parent / "pictures").mkdir()  # of an older report
    beside = sorted(tmp_path.iterdir())
    write(tmp_path / "report", results, title="again")
    assert sorted(tmp_path.iterdir()) == beside
    assert "again" in Page(page).text
    assert not (page.parent / "images" / "left.jpg").exists()
    (page.parent / "notes.txt").write_text("what I think of it")
    with pytest.raises(UsageError, match=r"something else than an earlier report, such as notes\.txt"):
        write(tmp_path / "report", results)
    other = tmp_path / "other"
    other.mkdir()
    (other / "index.html").write_text("<html>my own page</html>")
    with pytest.raises(UsageError, match=r"such as index\.html") as error:
        write(other, results)
    assert "name a new folder" in str(error.value.hint)
    assert (other / "index.html").read_text() == "<html>my own page</html>"
    with pytest.raises(UsageError, match="not a folder"):
        write(other / "index.html", results)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert write(empty, results).is_file()


def test_a_link_to_the_folder_stays_one(tmp_path: Path) -> None:
    results = material(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for _ in range(2):
        assert write(tmp_path / "link", results) == tmp_path / "link" / "index.html"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "index.html").is_file()


@pytest.mark.parametrize("step", ["_draw_curves", "_draw_sheets", "_drawn", "page"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_in_the_middle_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: type[BaseException]
) -> None:
    results = material(tmp_path)
    page = write(tmp_path / "earlier", results)
    before, names = page.read_bytes(), sorted(tmp_path.rglob("*"))

    def fail(*_: object) -> None:
        raise error("in the middle")

    monkeypatch.setattr(report, step, fail)
    for folder in ("earlier", "new"):
        with pytest.raises(error):
            write(tmp_path / folder, results)
        assert sorted(tmp_path.rglob("*")) == names
    assert page.read_bytes() == before


def test_an_earlier_report_comes_back_if_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = material(tmp_path)
    page = write(tmp_path / "report", results)
    before, names = page.read_bytes(), sorted(tmp_path.rglob("*"))
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise OSError(28, "No space left on device")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OutputError, match=r"report: cannot be written: No space left"):
        write(tmp_path / "report", results, title="again")
    assert sorted(tmp_path.rglob("*")) == names
    assert page.read_bytes() == before


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    results = material(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises((OutputError, UsageError), match="file/report"):
        write(tmp_path / "file" / "report", results)
    # other people may read it like any folder that they are given
    page = write(tmp_path / "report", results)
    (tmp_path / "plain").mkdir()
    assert page.parent.stat().st_mode == (tmp_path / "plain").stat().st_mode
    shutil.rmtree(page.parent)
