"""One image as several models see it, side by side with captions."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facetrain.core.drawing import draw_faces
from facetrain.core.faces import Faces, Floats, Image
from facetrain.core.images import fit_image
from facetrain.core.plots import new_figure

_PANEL = (360, 720)  # pixels: least and most of a panel's width
_TALLEST = 900  # pixels of a panel's height
_CAPTION = 46  # pixels of height
_GAP = 12
_PAPER = 255
_GOOD_SHAPE = 1.5  # width over height of a sheet that a screen shows well


@dataclass(frozen=True)
class Panel:
    """What one model found, and what stands above it: a title, and a line in grey. names: of the landmarks."""

    title: str
    line: str
    faces: Faces
    names: tuple[str, ...] = ()


def draw_sheet(image: Image, panels: Sequence[Panel]) -> Image:
    """Each model's faces drawn into the image (H, W, 3), in a grid. Returns (h, w, 3) uint8 BGR.

    Small images are enlarged and large ones reduced before drawing, so that lines and letters stay legible.
    """
    width = min(max(image.shape[1], _PANEL[0]), _PANEL[1])
    shown, factors = fit_image(image, width, _TALLEST)
    height, width = shown.shape[:2]
    cell_width, cell_height = max(width, _PANEL[0]), height + _CAPTION
    columns = _columns(len(panels), cell_width, cell_height)
    rows = math.ceil(len(panels) / columns)
    sheet = np.full((rows * (cell_height + _GAP) + _GAP, columns * (cell_width + _GAP) + _GAP, 3), _PAPER, np.uint8)
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        top, left = _GAP + row * (cell_height + _GAP), _GAP + column * (cell_width + _GAP)
        sheet[top : top + _CAPTION, left : left + cell_width] = _caption(panel, cell_width)
        drawn = draw_faces(shown, _scaled(panel.faces, factors), panel.names)
        sheet[top + _CAPTION : top + cell_height, left : left + width] = drawn
    return sheet


def _columns(count: int, width: int, height: int) -> int:
    """How many columns make the sheet's shape the most pleasant; two or three panels stand in one row."""
    if count <= 3:
        return count

    def distance(columns: int) -> float:
        rows = math.ceil(count / columns)
        empty = (rows * columns - count) / count
        return abs(math.log(columns * width / (rows * height) / _GOOD_SHAPE)) + empty / 2

    return min(range(1, count + 1), key=distance)


def _scaled(faces: Faces, factors: tuple[float, float]) -> Faces:
    scale: Floats = np.array(factors, np.float32)
    return Faces(faces.boxes * np.tile(scale, 2), faces.scores, faces.landmarks * scale)


def _caption(panel: Panel, width: int) -> Image:
    """The two lines above a panel, (_CAPTION, width, 3). OpenCV's own letters know nothing beyond ASCII."""
    figure = new_figure(width / 100, _CAPTION / 100)
    figure.set_layout_engine("none")
    figure.set_dpi(100)
    figure.text(0.004, 0.98, panel.title, fontsize=11, fontweight="bold", color="#1b1f24", va="top")
    figure.text(0.004, 0.10, panel.line, fontsize=9, color="#5d6773", va="bottom")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font lacks become boxes
        figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., 2::-1]  # RGBA as BGR
    caption = np.full((_CAPTION, width, 3), _PAPER, np.uint8)
    height, width = min(pixels.shape[0], _CAPTION), min(pixels.shape[1], width)
    caption[:height, :width] = pixels[:height, :width]
    return caption
