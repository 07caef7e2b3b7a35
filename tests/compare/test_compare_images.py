"""The sheet of images and the plot: sizes, what stands where, and labels that do not cover each other."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from facetrain.compare import scatter
from facetrain.compare.scatter import Bubble, check_plot_path, write_scatter
from facetrain.compare.sheet import Panel, draw_sheet
from facetrain.core.errors import UsageError
from facetrain.core.faces import Faces

CAPTION, GAP = 46, 12
TITLES = {"x_title": "ms", "y_title": "AP", "note": "how it was measured"}


def panel(*boxes: tuple[float, float, float, float]) -> Panel:
    array = np.array(boxes, np.float32).reshape(-1, 4)
    faces = Faces(array, np.full(len(array), 0.9, np.float32), np.zeros((len(array), 0, 2), np.float32))
    return Panel("größer 模.onnx", "yunet · 1 face", faces)


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 2, 2), (5, 3, 2), (6, 3, 2), (12, 4, 3)]
)
def test_panels_stand_in_a_grid(count: int, columns: int, rows: int) -> None:
    sheet = draw_sheet(np.full((400, 500, 3), 77, np.uint8), count * [panel()])
    assert sheet.shape == (GAP + rows * (400 + CAPTION + GAP), GAP + columns * (500 + GAP), 3)
    for index in range(count):
        row, column = divmod(index, columns)
        top, left = GAP + row * (400 + CAPTION + GAP), GAP + column * (500 + GAP)
        assert (sheet[top + CAPTION : top + CAPTION + 400, left : left + 500] == 77).all()
        caption = sheet[top : top + CAPTION, left : left + 500]
        assert caption.min() < 80  # something is written there
        assert (caption[:, 300:] == 255).all()  # at the left
    assert (sheet[:GAP] == 255).all()


@pytest.mark.parametrize(
    ("size", "shown"),
    [((100, 50), (360, 180)), ((3000, 1500), (720, 360)), ((500, 4000), (112, 900)), ((1, 1), (360, 360))],
)
def test_images_are_scaled_before_they_are_drawn(size: tuple[int, int], shown: tuple[int, int]) -> None:
    width, height = size
    face = (0.25 * width, 0.5 * height, 0.75 * width, 0.9 * height)
    sheet = draw_sheet(np.zeros((height, width, 3), np.uint8), [panel(face)])
    assert sheet.shape[0] == CAPTION + shown[1] + 2 * GAP
    image = sheet[GAP + CAPTION : -GAP, GAP : GAP + shown[0]].astype(int)
    green = (image[..., 1] > 150) & (image[..., 0] < 150) & (image[..., 2] < 150)
    columns = np.flatnonzero(green.any(0))
    assert columns[0] == pytest.approx(0.25 * shown[0], abs=6)
    assert columns[-1] == pytest.approx(0.75 * shown[0], abs=6)
    assert np.flatnonzero(green.any(1))[-1] == pytest.approx(0.9 * shown[1], abs=6)


CROWD = [
    Bubble(f"a_model_with_a_name_{i}.onnx", 2 + 0.05 * i, 0.7 + 0.002 * i, 70_000 + 1000 * i, i % 2 == 0)
    for i in range(6)
]
FAR = [Bubble("slow.onnx", 90.0, 0.4, 2_000_000, True)]


@pytest.mark.parametrize("bubbles", [CROWD + FAR, FAR, CROWD[:2]], ids=["crowd", "one", "two"])
@pytest.mark.parametrize("suffix", scatter.SUFFIXES)
def test_the_plot_is_written(tmp_path: Path, bubbles: list[Bubble], suffix: str) -> None:
    path = tmp_path / f"plot{suffix}"
    write_scatter(path, bubbles, **TITLES)
    if suffix == ".png":
        assert cv2.imread(str(path)).shape == (900, 1350, 3)
    elif suffix == ".svg":
        text = path.read_text(encoding="utf-8")
        assert all(bubble.name in text for bubble in bubbles)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_labels_cover_neither_bubbles_nor_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []

    def kept(*size: float) -> object:
        figures.append(make(*size))
        return figures[-1]

    make = scatter.new_figure
    monkeypatch.setattr(scatter, "new_figure", kept)
    write_scatter(tmp_path / "plot.png", CROWD + FAR, **TITLES)
    (figure,) = figures
    axes = figure.axes[0]
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer).extents for text in axes.texts]
    assert sorted(text.get_text() for text in axes.texts) == sorted(bubble.name for bubble in CROWD + FAR)
    frame = axes.get_window_extent(renderer).extents
    for i, (x1, y1, x2, y2) in enumerate(boxes):
        assert (x1 >= frame[0], x2 <= frame[2], y1 >= frame[1], y2 <= frame[3]) == (True, True, True, True)
        for left, bottom, right, top in boxes[:i]:
            assert min(x2, right) - max(x1, left) <= 1 or min(y2, top) - max(y1, bottom) <= 1
    assert axes.get_xscale() == "log"


def test_areas_are_in_proportion_to_the_parameters() -> None:
    areas = scatter._areas([1_000_000, 500_000, 250_000, 10])
    assert areas[0] / areas[1] == pytest.approx(2)
    assert areas[1] / areas[2] == pytest.approx(2)
    assert areas[3] == scatter._LEAST_AREA
    assert (scatter._areas([0, 0]) == scatter._LEAST_AREA).all()


def test_formats_that_are_not_written() -> None:
    for name in ("plot.gif", "plot", "png"):
        with pytest.raises(UsageError, match="not a format"):
            check_plot_path(Path(name))
