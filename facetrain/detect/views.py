"""An image as a detector is shown it: fitted into a size, mirrored, and the way back for what is found in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facetrain.core.boxes import pad_image
from facetrain.core.errors import UsageError
from facetrain.core.faces import Faces, Image
from facetrain.core.images import fit_image
from facetrain.core.suggest import choices_hint

AUTO, ORIGINAL = "auto", "original"  # sizes that depend on the image
_SIDES = range(32, 16385)  # pixels of a size; below, networks see nothing but their border


def box_of(size: str, width: int, height: int) -> tuple[int, int] | None:
    """The (width, height) that an image of that size is fitted into; None for `original` and `auto`.

    Raises UsageError.
    """
    if size in (AUTO, ORIGINAL):
        return None
    if size == "vga":
        return (640, 480) if width > height else (480, 640)
    sides = size.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdecimal() for side in sides):
        raise UsageError(
            f"`size` {size}: no such rule",
            choices_hint(size, (AUTO, ORIGINAL, "vga")) + ", a number such as 640, 800x600",
        )
    if not all(len(side) < 9 and int(side) in _SIDES for side in sides):
        raise UsageError(f"`size` {size}: each side must be from {_SIDES[0]} to {_SIDES[-1]:,} pixels")
    return int(sides[0]), int(sides[-1])


def shown_as(image: Image, size: str, scale: float = 1) -> tuple[Image, tuple[float, float]]:
    """An image (H, W, 3) as a size and a scale want it, and the factors shown / original of width and height."""
    height, width = image.shape[:2]
    box = box_of(size, width, height)
    if box is None and scale == 1:
        return image, (1.0, 1.0)
    target = box or (width, height)
    target = max(1, round(target[0] * scale)), max(1, round(target[1] * scale))
    shown, factors = fit_image(image, *target)
    return shown if box is None else pad_image(shown, *target), factors


@dataclass(frozen=True)
class View:
    """An image as it is shown. factors: shown / original, of width and height; mirror: original width if flipped."""

    image: Image
    factors: tuple[float, float]
    mirror: int | None = None

    def back(self, faces: Faces, mirror: Sequence[int] | None = None) -> Faces:
        """Faces of the shown image in pixels of the original. Mirrored landmarks change places as `mirror` says."""
        scale = np.array(self.factors, np.float32)
        boxes, landmarks = faces.boxes / np.tile(scale, 2), faces.landmarks / scale
        if self.mirror is not None:
            boxes = np.stack([self.mirror - boxes[:, 2], boxes[:, 1], self.mirror - boxes[:, 0], boxes[:, 3]], 1)
            if mirror is None or len(mirror) != landmarks.shape[1]:
                landmarks = np.full_like(landmarks, np.nan)  # which point is which side is not known
            else:
                landmarks = np.stack([self.mirror - landmarks[..., 0], landmarks[..., 1]], -1)[:, list(mirror)]
        return Faces(boxes.astype(np.float32), faces.scores, landmarks.astype(np.float32))
