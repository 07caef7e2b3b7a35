"""The report is complete, escapes what it shows, and is written whole or not at all."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from facetrain.core.errors import UsageError
from facetrain.core.faces import Faces, LabelledImage
from facetrain.core.images import write_image
from facetrain.eval import report
from facetrain.eval.details import measure_details
from facetrain.eval.labelled import labelled_curve


class Links(HTMLParser):
    """Collects where a page points, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if name in ("src", "href") and value]

    def handle_data(self, data: str) -> None:
        self.text += data


def material(folder: Path) -> tuple[list[Faces], list[LabelledImage]]:
    """Three pictures: one with a miss, one with a false alarm, one that cannot be read."""
    found, pictures = [], []
    for number, box in enumerate(([10, 10, 40, 40], [60, 60, 90, 90], [5, 5, 30, 30])):
        path = folder / f"{number}.png"
        if number == 2:
            path.write_text("no picture")
        else:
            write_image(path, np.full((100, 1400, 3), 90, np.uint8))
        boxes = np.array([[10, 10, 40, 40]], np.float32)
        empty = np.zeros((1, 0, 3), np.float32)
        pictures.append(LabelledImage(path, f"<b>&{number}.png", None, boxes, empty, np.zeros(1, bool)))
        found.append(Faces(np.array([box], np.float32), np.array([0.9], np.float32), np.zeros((1, 0, 2), np.float32)))
    return found, pictures


def write(folder: Path, found: list[Faces], pictures: list[LabelledImage]) -> Path:
    curves = {"all": labelled_curve(found, pictures)}
    details = measure_details(found, pictures)
    settings = {"protocol": {"size": "original", "note": "<i>"}, "curves": curves, "details": details}
    return report.write_report(folder, title="a <model>", found=found, pictures=pictures, **settings)


def test_everything_is_there_and_escaped(tmp_path: Path) -> None:
    page = write(tmp_path / "out" / "report", *material(tmp_path))
    content = page.read_text(encoding="utf-8")
    links = Links()
    links.feed(content)
    assert "a <model>" in links.text
    assert "<b>&1.png" in links.text
    assert "<i>" not in content.replace("&lt;i&gt;", "")
    assert "not a picture" in links.text
    assert "no landmarks" in links.text
    files = [page.parent / link for link in links.links]
    assert len(files) >= 4
    assert all(file.is_file() for file in files)
    assert {file.name for file in (page.parent / "pictures").iterdir()} == {"00001.jpg"}


def test_replaces_an_earlier_report_and_nothing_else(tmp_path: Path) -> None:
    found, pictures = material(tmp_path)
    page = write(tmp_path / "report", found, pictures)
    (page.parent / "pictures" / "left.jpg").write_bytes(b"x")
    write(tmp_path / "report", found, pictures)
    assert not (page.parent / "pictures" / "left.jpg").exists()
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="something else"):
        write(other, found, pictures)
    assert (other / "thesis.tex").exists()


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, pictures = material(tmp_path)
    before = sorted(tmp_path.iterdir())

    def fail(*_: object) -> str:
        raise RuntimeError("in the middle")

    monkeypatch.setattr(report, "_page", fail)
    with pytest.raises(RuntimeError):
        write(tmp_path / "report", found, pictures)
    assert sorted(tmp_path.iterdir()) == before
