"""An image of what the network really sees."""

from pathlib import Path

import numpy as np

from facetrain.core.drawing import side_colours
from facetrain.core.images import opencv, write_image
from facetrain.data.batch import FACE, IGNORED, Batch

_MAX_IMAGES = 16
_TILE = 320
_BOX, _IGNORED_BOX = (60, 220, 60), (160, 160, 160)
_RIGHT, _LEFT, _MIDDLE = (40, 40, 255), (255, 160, 30), (40, 220, 255)


def draw_batch(batch: Batch, names: tuple[str, ...], path: Path, columns: int | None = None) -> None:
    """Write the first images of a batch as one sheet, with boxes, ignored boxes (grey) and landmarks.

    columns: of the sheet, which then has all images; None: the first sixteen in a square

    Landmarks whose names say right are red, left blue, others yellow, so that a wrong mirror pair is seen at once.
    """
    cv2 = opencv()
    count = len(batch.images) if columns else min(len(batch.images), _MAX_IMAGES)
    columns = columns or max(1, round(count**0.5))
    rows = -(-count // columns)
    sheet = np.zeros((rows * _TILE, columns * _TILE, 3), np.uint8)
    scale = _TILE / batch.images.shape[-1]
    boxes, landmarks = batch.boxes.cpu().numpy() * scale, batch.landmarks.cpu().numpy()
    image, kind = batch.image.cpu().numpy(), batch.kind.cpu().numpy()
    colours = side_colours(names, _RIGHT, _LEFT, _MIDDLE)
    for i in range(count):
        pixels = batch.images[i].permute(1, 2, 0).round().clamp(0, 255).byte().cpu().numpy()
        tile = np.ascontiguousarray(cv2.resize(pixels, (_TILE, _TILE), interpolation=cv2.INTER_AREA))
        for face in np.flatnonzero((image == i) & ((kind == FACE) | (kind == IGNORED))):
            x1, y1, x2, y2 = (round(float(v)) for v in boxes[face])
            cv2.rectangle(tile, (x1, y1), (x2, y2), _BOX if kind[face] == FACE else _IGNORED_BOX, 1)
            for colour, (x, y, weight) in zip(colours, landmarks[face], strict=True):
                if weight > 0:
                    cv2.circle(tile, (round(float(x) * scale), round(float(y) * scale)), 2, colour, -1, cv2.LINE_AA)
        top, left = divmod(i, columns)
        sheet[top * _TILE : (top + 1) * _TILE, left * _TILE : (left + 1) * _TILE] = tile
    write_image(path, sheet)
