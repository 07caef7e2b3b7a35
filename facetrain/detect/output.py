"""What becomes of found faces: a picture with boxes, scores and landmarks drawn in, and one result per picture."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facetrain.core.errors import DataError, FacetrainError, InputError, UsageError, about
from facetrain.core.faces import Detector, Faces, Image
from facetrain.core.images import opencv, read_image, write_image
from facetrain.core.memory import no_memory_error
from facetrain.detect.sources import Failure, Source

Colour = tuple[int, int, int]  # BGR

_BOX: Colour = (80, 220, 60)
_TEXT: Colour = (16, 40, 12)
# By landmark, in the order of the five: the person's right side is orange, the left side blue, the nose white.
_RIGHT: Colour = (0, 140, 255)
_LEFT: Colour = (255, 160, 40)
_MIDDLE: Colour = (255, 255, 255)
_FIVE = (_RIGHT, _LEFT, _MIDDLE, _RIGHT, _LEFT)
_SUBPIXEL = 4  # OpenCV draws with coordinates in sixteenths


@dataclass(frozen=True)
class PictureFaces:
    """The faces of one picture file of (width, height), how long the search took, where the drawn picture lies."""

    source: Source
    width: int
    height: int
    faces: Faces
    seconds: float
    drawn: bool = True

    def as_text(self) -> str:
        """The picture's line: path, size, faces, best score, time, and the drawn file where it has another name."""
        faces = f"{len(self.faces)} face{'' if len(self.faces) == 1 else 's'}"
        best = f"best {self.faces.scores[0]:.2f}" if len(self.faces) else "best -"
        line = f"{self.source.path}  {self.width}x{self.height}  {faces}  {best}  {self.seconds * 1000:.0f} ms"
        renamed = self.drawn and self.source.target.name != self.source.path.name
        return f"{line}  drawn as {self.source.target}" if renamed else line

    def as_dict(self) -> dict[str, Any]:
        """The picture's element in the JSON document."""
        return {
            "path": str(self.source.path),
            "width": self.width,
            "height": self.height,
            "faces": self.faces.as_dicts(),
        }


def detect_files(
    detector: Detector, sources: Sequence[Source], *, draw: bool = True
) -> Iterator[PictureFaces | Failure]:
    """Read each picture, find its faces, with `draw` write the drawn picture; one picture in memory at a time.

    A picture that fails is given as a Failure, and the rest goes on.
    """
    for source in sources:
        try:
            with no_memory_error(str(source.path)):
                image = read_image(source.path)
                begun = time.perf_counter()
                faces = detector.detect_batch([image])[0]
                seconds = time.perf_counter() - begun
                height, width = image.shape[:2]
                if draw:
                    write_image(source.target, draw_faces(image, faces))
        except DataError as error:
            yield Failure(str(source.path), about(source.path, error))
        except FacetrainError as error:
            yield Failure(str(source.path), error)
        else:
            yield PictureFaces(source, width, height, faces, seconds, draw)


def make_output_folder(folder: Path) -> None:
    """Make the folder for results before the first picture is read. Raises UsageError."""
    if folder.is_file():
        raise InputError(f"{folder}: a file, not a folder for results", "choose another `output`")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made: {error.strerror}", "choose another `output`") from error


def draw_faces(image: Image, faces: Faces) -> Image:
    """A copy of the picture with boxes, scores and landmarks. Lines and letters grow with the picture and its faces."""
    cv2 = opencv()
    canvas = np.ascontiguousarray(image).copy()
    side = max(canvas.shape[:2])
    # What lies far outside is not seen, but OpenCV would walk all the way there.
    boxes = np.clip(faces.boxes, -side, 2 * side)
    landmarks = np.clip(faces.landmarks, -side, 2 * side)
    for box, score, points in zip(boxes[::-1], faces.scores[::-1], landmarks[::-1], strict=True):
        line = _line_width(canvas, box)
        cv2.rectangle(canvas, _fixed(box[:2]), _fixed(box[2:]), _BOX, line, cv2.LINE_AA, _SUBPIXEL)
        colours = _FIVE if len(points) == len(_FIVE) else [_RIGHT] * len(points)
        radius = max(float(min(box[2:] - box[:2])) / 32, line * 0.75, 0.8)
        for point, colour in zip(points, colours, strict=True):
            cv2.circle(canvas, _fixed(point), round(radius * 16), colour, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL)
        _draw_score(canvas, box, float(score), line)
    return canvas


def _line_width(image: Image, box: np.ndarray[Any, Any]) -> int:
    """Pixels: by the picture's longer side, but never so wide that it hides a small face."""
    by_picture: float = max(image.shape[:2]) / 450
    by_face = float(min(box[2:] - box[:2])) / 16
    return max(1, round(min(by_picture, by_face)))


def _draw_score(canvas: Image, box: np.ndarray[Any, Any], score: float, line: int) -> None:
    """The score on a plate above the box's upper left corner, or inside where there is no room above."""
    cv2 = opencv()
    text, font = f"{score:.2f}", cv2.FONT_HERSHEY_SIMPLEX
    face_width = float(box[2] - box[0])
    longer_side = max(canvas.shape[:2])
    # As wide as half the face, but legible: between 1/120 and 1/40 of the picture's longer side in height.
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


def _fixed(point: np.ndarray[Any, Any]) -> tuple[int, int]:
    """A point in OpenCV's sixteenths of a pixel."""
    x, y = np.round(point.astype(np.float64) * 16)
    return int(x), int(y)
