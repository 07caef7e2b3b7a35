"""Faces covered in an image: where a cover lies, and what it shows in their place.

A cover hides the face's box, with a margin around it, whole: no pixel that the box touches shows anything of what was
there. What is softened is its edge outside. A cover is made of means of what lies under it, or of nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetrain.core.errors import UsageError
from facetrain.core.faces import Floats, Image
from facetrain.core.images import opencv
from facetrain.core.suggest import choices_hint

SHAPES = ("ellipse", "box")
# By shape: with more, hardly any labelled face is hidden better (tests/benchmarks/covered.py).
MARGINS = {"ellipse": 0.1, "box": 0.25}
FEATHER = 0.1
# The lowest at which yunet_n and yunet_s cover at most 3 areas an image that are no faces (the same script).
COVER_SCORE = 0.18
# Means across a face's longer side, and pixels of one at least. With 6 and 4 yunet_n finds 2 of 100 blurred faces again
# and 14 of 100 pixelated ones, small ones above all, at score .5; with 4 and 8 fewer than 1 of 100 of either.
BLOCKS = 4
LEAST_BLOCK = 8
_MOST = 10.0  # of margin and feather: more covers whole photographs
_BAND = 1 << 20  # pixels that are blended at a time, so that a face of 50 megapixels takes little more than its copy

Fill = Callable[[Image, float], Image]


@dataclass(frozen=True)
class Cover:
    """What of a face is covered.

    shape:   `box`: the box and its margin; `ellipse`: the ellipse around those, which passes through their corners
    margin:  how much is added to each side of the box, as a part of its width and height
    feather: how wide the edge is in which the cover fades out, outside of what is covered, as a part of the same
    """

    shape: str = "ellipse"
    margin: float = MARGINS["ellipse"]
    feather: float = FEATHER

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise UsageError(f"`shape` {self.shape}: no such shape", choices_hint(self.shape, SHAPES))
        for name in ("margin", "feather"):
            value = getattr(self, name)
            if not 0 <= value <= _MOST:
                raise UsageError(f"`{name}` {value:g}: must be from 0 to {_MOST:g}", "0.1 is a tenth of a face's side")


@dataclass(frozen=True)
class _Spot:
    """A cover's place in an image.

    left, top, right, bottom: the part of the image that it changes, edge included; empty where that is outside
    x, y:   of the part's pixels, how far the nearest point of each lies from the middle: 1 where the cover ends
    edge:   how far beyond 1 it fades out
    """

    left: int
    top: int
    right: int
    bottom: int
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    edge: float
    round: bool

    def opacity(self, first: int, last: int) -> NDArray[np.float32]:
        """Of some of its rows, (last - first, right - left): 1 where nothing of the image stays, 0 where all does."""
        x, y = self.x[None], self.y[first:last, None]
        far: NDArray[np.float32] = np.sqrt(x * x + y * y) if self.round else np.maximum(x, y)
        if self.edge <= 0:
            return (far <= 1).astype(np.float32)
        faded: NDArray[np.float32] = np.clip((1 + self.edge - far) / np.float32(self.edge), 0, 1)
        return faded


def cover_faces(image: Image, boxes: Floats, cover: Cover, fill: Fill) -> Image:
    """A copy of an image with faces covered.

    image: (H, W, 3) uint8 BGR
    boxes: (N, 4) xyxy pixels of this image, of any size, also partly or wholly outside of it
    fill:  makes what a cover shows of the pixels under it, (h, w, 3), and of the longer side of the whole face
    """
    covered = np.ascontiguousarray(image).copy()
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    sides = np.abs(boxes[:, 2:] - boxes[:, :2])  # a box turned inside out is still a place where a face may be
    # The largest first: what a smaller one beside it then shows is made of pixels that are covered already, so that
    # no part of one face comes back, finer, in the cover of another.
    for number in np.argsort(-sides.prod(1), kind="stable"):
        _cover(covered, boxes[number], cover, fill)
    return covered


def _cover(image: Image, box: Floats, cover: Cover, fill: Fill) -> None:
    """Cover one face, in place."""
    spot = _spot(box, cover, image.shape[1], image.shape[0])
    if spot is None:
        return
    part = image[spot.top : spot.bottom, spot.left : spot.right]
    shown = fill(part, float(np.abs(box[2:] - box[:2]).max()))
    rows = max(1, _BAND // part.shape[1])
    for first in range(0, len(part), rows):
        old, new = part[first : first + rows], shown[first : first + rows]
        opacity = spot.opacity(first, min(first + rows, len(part)))
        np.copyto(old, new, where=(opacity >= 1)[..., None])
        edge = (opacity > 0) & (opacity < 1)
        share = opacity[edge][:, None]
        old[edge] = np.rint(old[edge] * (1 - share) + new[edge] * share).astype(np.uint8)


def _spot(box: Floats, cover: Cover, width: int, height: int) -> _Spot | None:
    """Where the cover of a box lies in an image of width x height; None where outside."""
    enlarged = (1 + 2 * cover.margin) * (math.sqrt(2) if cover.shape == "ellipse" else 1)  # cover / box
    edge = 2 * cover.feather / enlarged
    ranges: list[tuple[int, int]] = []
    far: list[NDArray[np.float32]] = []
    for low, high, length in ((box[0], box[2], width), (box[1], box[3], height)):
        middle = (float(low) + float(high)) / 2
        half = max(abs(float(high) - float(low)) / 2 * enlarged, 0.5)  # of what has no size: the pixel it lies in
        reach = half * (1 + edge)
        first = int(np.clip(math.floor(middle - reach), 0, length))
        last = int(np.clip(math.ceil(middle + reach), 0, length))
        if first >= last:
            return None
        # The nearest point of each pixel: one that the cover only touches is covered too, whatever float32 rounds.
        distances = np.maximum(np.abs(np.arange(first, last) + 0.5 - middle) - 0.5, 0) / (half * (1 + 1e-6))
        ranges.append((first, last))
        far.append(distances.astype(np.float32))
    (left, right), (top, bottom) = ranges
    return _Spot(left, top, right, bottom, far[0], far[1], edge, cover.shape == "ellipse")


def blurred(part: Image, side: float) -> Image:
    """So soft that nothing in it is smaller than a quarter of the face, whatever its size.

    Means of blocks alone would leave eyes and mouth as spots; means of means, joined smoothly, leave colour and light.
    """
    cv2 = opencv()
    small = cv2.GaussianBlur(_blocks(part, side), (3, 3), 0, borderType=cv2.BORDER_REPLICATE)
    shown: Image = cv2.resize(small, (part.shape[1], part.shape[0]), interpolation=cv2.INTER_CUBIC)
    return shown


def pixelated(part: Image, side: float) -> Image:
    """Squares of one colour each, at most four across the face's longer side."""
    cv2 = opencv()
    shown: Image = cv2.resize(
        _blocks(part, side), (part.shape[1], part.shape[0]), interpolation=cv2.INTER_NEAREST_EXACT
    )
    return shown


def blackened(part: Image, side: float) -> Image:
    """Black."""
    return np.zeros_like(part)


def _blocks(part: Image, side: float) -> Image:
    """Means of blocks as large as a quarter of the face's longer side, or a little larger."""
    cv2 = opencv()
    block = max(side / BLOCKS, LEAST_BLOCK)
    height, width = part.shape[:2]
    size = max(1, int(width / block)), max(1, int(height / block))
    means: Image = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    return means
