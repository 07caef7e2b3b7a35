"""Boxes, landmarks and scores drawn into images: faces that were found, crops as trained, outcomes of a measurement."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facetrain.core.faces import Faces, Floats, Image
from facetrain.core.images import opencv

Colour = tuple[int, int, int]  # BGR

_BOX: Colour = (80, 220, 60)
_TEXT: Colour = (16, 40, 12)
# By landmark: the person's right side is orange, the left side blue, what lies between or has no side white.
_RIGHT: Colour = (0, 140, 255)
_LEFT: Colour = (255, 160, 40)
_MIDDLE: Colour = (255, 255, 255)
_FEW = 8  # landmarks; the dots of more are smaller, so that they stay apart
_SUBPIXEL = 4  # OpenCV draws with coordinates in sixteenths


def draw_faces(image: Image, faces: Faces, names: Sequence[str] = ()) -> Image:
    """A copy of the image with boxes, scores and landmarks. Lines and letters grow with the image and its faces.

    names: of the landmarks, which say the side of the face; none: all have one colour
    """
    cv2 = opencv()
    canvas = np.ascontiguousarray(image).copy()
    side = max(canvas.shape[:2])
    # What lies far outside is not seen, but OpenCV would walk all the way there.
    boxes = np.clip(faces.boxes, -side, 2 * side)
    landmarks = np.clip(faces.landmarks, -side, 2 * side)
    for box, score, points in zip(boxes[::-1], faces.scores[::-1], landmarks[::-1], strict=True):
        line = _line_width(canvas, box)
        cv2.rectangle(canvas, _fixed(box[:2]), _fixed(box[2:]), _BOX, line, cv2.LINE_AA, _SUBPIXEL)
        colours = side_colours(names) if len(points) == len(names) else [_RIGHT] * len(points)
        crowd = max(len(points) / _FEW, 1.0) ** 0.5
        radius = max(float(min(box[2:] - box[:2])) / 32 / crowd, line * 0.75 / crowd, 0.8)
        for point, colour in zip(points, colours, strict=True):
            cv2.circle(canvas, _fixed(point), round(radius * 16), colour, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL)
        _draw_score(canvas, box, float(score), line)
    return canvas


def side_colours(
    names: Sequence[str], right: Colour = _RIGHT, left: Colour = _LEFT, middle: Colour = _MIDDLE
) -> list[Colour]:
    """The colour of each landmark by the side that its name tells: right_eye, mouth_left, EyeRight."""
    words = [name.lower() for name in names]
    return [right if "right" in word else left if "left" in word else middle for word in words]


def _line_width(image: Image, box: Floats) -> int:
    """Pixels: by the image's longer side, but never so wide that it hides a small face."""
    by_image: float = max(image.shape[:2]) / 450
    by_face = float(min(box[2:] - box[:2])) / 16
    return max(1, round(min(by_image, by_face)))


def _draw_score(canvas: Image, box: Floats, score: float, line: int) -> None:
    """The score on a plate above the box's upper left corner, or inside where there is no room above."""
    cv2 = opencv()
    text, font = f"{score:.2f}", cv2.FONT_HERSHEY_SIMPLEX
    face_width = float(box[2] - box[0])
    longer_side = max(canvas.shape[:2])
    # As wide as half the face, but legible: between 1/120 and 1/40 of the image's longer side in height.
    height = min(max(face_width / 7, longer_side / 120, 6.0), max(longer_side / 40, 6.0))
    scale, width = height / 22, max(1, round(height / 14))
    (text_width, text_height), _ = cv2.getTextSize(text, font, scale, width)
    margin = max(1, round(height / 5))
    left = round(min(max(float(box[0]) - line / 2, 0), max(canvas.shape[1] - text_width - 2 * margin, 0)))
    bottom = round(float(box[1]) - line / 2)
    if bottom - text_height - 2 * margin < 0:
        bottom = round(max(float(box[1]), 0)) + text_height + 2 * margin
    top = bottom - text_height - 2 * margin
    cv2.rectangle(canvas, (left, top), (left + text_width + 2 * margin, bottom), _BOX, cv2.FILLED)
    cv2.putText(canvas, text, (left + margin, bottom - margin), font, scale, _TEXT, width, cv2.LINE_AA)


def _fixed(point: Floats) -> tuple[int, int]:
    """A point in OpenCV's sixteenths of a pixel."""
    x, y = np.round(point.astype(np.float64) * 16)
    return int(x), int(y)


def whole_pixels(boxes: NDArray[np.float64], side: int) -> NDArray[np.int64]:
    """Boxes (F, 4) in whole pixels. What lies far outside is not seen, but OpenCV would walk all the way there."""
    return np.clip(np.nan_to_num(boxes), -side, 2 * side).round().astype(np.int64)


def outline(canvas: Image, box: NDArray[np.int64], colour: Colour, line: int) -> None:
    """A rectangle around the box and not on its edge, thinner on a small face, which so stays visible."""
    line = min(line, max((line + 1) // 2, int(min(box[2:] - box[:2])) // 5))
    x1, y1, x2, y2 = (box + np.array((-line, -line, line, line))).tolist()
    opencv().rectangle(canvas, (x1, y1), (x2, y2), colour, line)


def dotted(canvas: Image, box: NDArray[np.int64], colour: Colour) -> None:
    """A thin dotted rectangle, which OpenCV cannot draw: two pixels, then a gap of two."""
    x1, y1, x2, y2 = box.tolist()
    height, width = canvas.shape[:2]
    x, y = np.arange(max(x1, 0), min(x2 + 1, width)), np.arange(max(y1, 0), min(y2 + 1, height))
    for row in {y1, y2} & set(range(height)):
        canvas[row, x[(x - x1) % 4 < 2]] = colour
    for column in {x1, x2} & set(range(width)):
        canvas[y[(y - y1) % 4 < 2], column] = colour


def plate(canvas: Image, box: NDArray[np.int64], text: str, colour: Colour) -> None:
    """A text on a dark plate above the box, or inside it where there is no room above."""
    cv2 = opencv()
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.42
    (width, height), _ = cv2.getTextSize(text, font, scale, 1)
    left = min(max(int(box[0]) - 2, 0), max(canvas.shape[1] - width - 2, 0))
    bottom = int(box[1]) - 3
    if bottom < height + 3:
        bottom = max(int(box[1]), 0) + height + 3
    cv2.rectangle(canvas, (left, bottom - height - 3), (left + width + 1, bottom), (0, 0, 0), cv2.FILLED)
    cv2.putText(canvas, text, (left + 1, bottom - 2), font, scale, colour, 1, cv2.LINE_AA)
