"""Which square of an image becomes a training image, and where the faces are in it. NumPy, no pixels.

Every draw comes from (seed, epoch, position in the epoch): the same whatever the number of workers, processes or the
place where images are kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrain.config.schema import DataConfig
from facetrain.core.faces import Floats, LabelledImage
from facetrain.data.augmentations import draw_augmentations

CropFaces = tuple[Floats, Floats, NDArray[np.bool_]]  # boxes (F, 4), landmarks (F, L, 3), ignore (F,)

TRIES = 250  # places tried for one scale before another scale is drawn
ROUNDS = 10  # scales tried before any window is taken; the original tries for ever


@dataclass(frozen=True)
class Crop:
    """A square window of an image, `side` pixels wide; it may reach over the borders.

    drawn: what happens to it next, by the names of augmentations, in the order they are applied
    """

    image: int
    left: int
    top: int
    side: int
    drawn: Mapping[str, Any] = field(default_factory=dict)


def epoch_order(images: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order in which an epoch visits the images."""
    return np.random.default_rng([seed, epoch]).permutation(images)


def draw_crop(image: LabelledImage, index: int, config: DataConfig, seed: int, epoch: int, position: int) -> Crop:
    """The crop of the image that stands at `position` of an epoch."""
    rng = np.random.default_rng([seed, epoch, position])
    assert image.size is not None
    faces = image.boxes[~image.ignore]
    centres = (faces[:, :2] + faces[:, 2:]) / 2
    # a window in which all faces are too small to learn from would be spent on background
    largest = np.full(len(faces), np.inf)
    if config.min_face:
        largest = (faces[:, 2:] - faces[:, :2]).min(1) * (config.size / config.min_face)
    left, top, side = _window(rng, image.size, centres, largest, config.crop_scales, config.reproduce)
    return Crop(index, left, top, side, draw_augmentations(config, rng, seed, epoch, position))


def _window(
    rng: np.random.Generator,
    size: tuple[int, int],
    centres: NDArray[np.floating],
    largest: NDArray[np.floating],
    scales: tuple[float, ...],
    reproduce: bool,
) -> tuple[int, int, int]:
    """Left, top and side of a window with a face's centre strictly inside, if one is found.

    centres: (F, 2); largest: (F,) the largest side of a window in which the face still counts
    """
    width, height = size
    short = min(width, height)
    scale = float(rng.choice(scales))
    for _ in range(ROUNDS):
        side = max(1, int(scale * short))
        lefts = _offsets(rng, width, side, reproduce)
        tops = _offsets(rng, height, side, reproduce)
        if len(centres) == 0:
            break
        x, y = centres[:, 0], centres[:, 1]
        inside = (lefts[:, None] < x) & (x < lefts[:, None] + side) & (tops[:, None] < y) & (y < tops[:, None] + side)
        hits = np.flatnonzero((inside & (side <= largest)).any(1))
        if len(hits):
            return int(lefts[hits[0]]), int(tops[hits[0]]), side
        # a growing window reaches faces outside of the image, but makes those in it smaller
        grows = max(scales) <= 1 and not np.isfinite(largest).any()
        scale = scale * 1.2 if grows else float(rng.choice(scales))
    return int(lefts[0]), int(tops[0]), side


def _offsets(rng: np.random.Generator, length: int, side: int, reproduce: bool) -> NDArray[np.int64]:
    """TRIES places of a window along one axis. The original never draws the last place; `reproduce` keeps that."""
    low, high = min(0, length - side), max(0, length - side)
    if reproduce and low < high:
        high -= 1
    return rng.integers(low, high, size=TRIES, endpoint=True)


def crop_faces(
    image: LabelledImage,
    crop: Crop,
    size: int,
    reproduce: bool,
    *,
    min_face: float = 0.0,
    min_visible: float = 0.0,
) -> CropFaces:
    """The faces whose centre lies strictly inside the window, in pixels of the size x size crop, not yet augmented.

    min_face:    pixels of the crop: a face whose shorter side is less becomes ignored
    min_visible: a face of whose area a smaller share lies in the window becomes ignored

    Returns boxes (F, 4), landmarks (F, L, 3), ignore (F,). A landmark outside the window loses its weight; with
    `reproduce` it is moved to the border and kept, and all points of a face share the mean weight.
    """
    low = np.array([crop.left, crop.top], np.float32)
    centre = (image.boxes[:, :2] + image.boxes[:, 2:]) / 2
    inside = ((centre > low) & (centre < low + crop.side)).all(1)
    scale = np.float32(size / crop.side)
    boxes = (image.boxes[inside].reshape(-1, 2, 2) - low).clip(0, crop.side) * scale
    boxes = boxes.reshape(-1, 4).clip(0, size)
    landmarks = image.landmarks[inside].copy()
    points = landmarks[..., :2] - low
    if reproduce:
        landmarks[..., 2:] = landmarks[..., 2:].mean(1, keepdims=True) if landmarks.shape[1] else 0
    else:
        landmarks[..., 2] *= ((points >= 0) & (points <= crop.side)).all(-1)
    landmarks[..., :2] = (points.clip(0, crop.side) * scale).clip(0, size)
    ignore = image.ignore[inside]
    if min_face or min_visible:
        ignore = ignore | _too_little(image.boxes[inside], boxes / scale, min_face / float(scale), min_visible)
    return boxes.astype(np.float32), landmarks.astype(np.float32), ignore


def _too_little(whole: Floats, seen: Floats, min_face: float, min_visible: float) -> NDArray[np.bool_]:
    """Which faces are too small, or show too little of themselves. whole, seen: (F, 4) xyxy at one scale."""
    sides, visible = whole[:, 2:] - whole[:, :2], seen[:, 2:] - seen[:, :2]
    small = sides.min(1) < min_face
    hidden = visible.prod(1) < min_visible * sides.prod(1) * (1 - 1e-5)  # a whole face is one in float32, too
    little: NDArray[np.bool_] = np.logical_or(small, hidden)
    return little
