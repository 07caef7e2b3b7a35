"""Which square of a picture becomes a training picture, and what happens to the faces in it. NumPy, no pixels.

Every draw comes from (seed, epoch, position in the epoch): the same whatever the number of workers, processes or the
place where pictures are kept.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetrain.config.schema import ColourConfig, DataConfig
from facetrain.core.faces import Floats, LabelledImage

CropFaces = tuple[Floats, Floats, NDArray[np.bool_]]  # boxes (F, 4), landmarks (F, L, 3), ignore (F,)

TRIES = 250  # places tried for one scale before another scale is drawn
ROUNDS = 10  # scales tried before any window is taken; the original tries for ever


@dataclass(frozen=True)
class Colour:
    """Colour changes of one picture; factor 1, False and 0 leave it as it is."""

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    grey: bool = False
    blur: float = 0.0  # sigma in pixels


@dataclass(frozen=True)
class Crop:
    """A square window of a picture, `side` pixels wide; it may reach over the borders."""

    picture: int
    left: int
    top: int
    side: int
    flip: bool
    colour: Colour = Colour()


def epoch_order(pictures: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order in which an epoch visits the pictures."""
    return np.random.default_rng([seed, epoch]).permutation(pictures)


def draw_crop(picture: LabelledImage, index: int, config: DataConfig, seed: int, epoch: int, position: int) -> Crop:
    """The crop of the picture that stands at `position` of an epoch."""
    rng = np.random.default_rng([seed, epoch, position])
    assert picture.size is not None
    faces = picture.boxes[~picture.ignore]
    centres = (faces[:, :2] + faces[:, 2:]) / 2
    left, top, side = _window(rng, picture.size, centres, config.crop_scales, config.reproduce)
    flip = bool(rng.random() < config.flip)
    return Crop(index, left, top, side, flip, _draw_colour(rng, config.colour))


def _window(
    rng: np.random.Generator,
    size: tuple[int, int],
    centres: NDArray[np.floating],
    scales: tuple[float, ...],
    reproduce: bool,
) -> tuple[int, int, int]:
    """Left, top and side of a window with a face's centre strictly inside, if one is found."""
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
        hits = np.flatnonzero(inside.any(1))
        if len(hits):
            return int(lefts[hits[0]]), int(tops[hits[0]]), side
        scale = float(rng.choice(scales)) if max(scales) > 1 else scale * 1.2
    return int(lefts[0]), int(tops[0]), side


def _offsets(rng: np.random.Generator, length: int, side: int, reproduce: bool) -> NDArray[np.int64]:
    """TRIES places of a window along one axis. The original never draws the last place; `reproduce` keeps that."""
    low, high = min(0, length - side), max(0, length - side)
    if reproduce and low < high:
        high -= 1
    return rng.integers(low, high, size=TRIES, endpoint=True)


def _draw_colour(rng: np.random.Generator, config: ColourConfig) -> Colour:
    jitter = config.jitter
    factors = rng.uniform(1 - jitter, 1 + jitter, size=3)
    grey, blurred, sigma = rng.random() < config.grey, rng.random() < config.blur, rng.uniform(0.5, 2.5)
    if jitter == 0:
        factors = np.ones(3)
    brightness, contrast, saturation = (float(factor) for factor in factors)
    return Colour(brightness, contrast, saturation, bool(grey), float(sigma) if blurred else 0.0)


def crop_faces(picture: LabelledImage, crop: Crop, size: int, mirror: NDArray[np.int64], reproduce: bool) -> CropFaces:
    """The faces whose centre lies strictly inside the window, in pixels of the size x size crop.

    mirror: (L,) the landmark that takes each landmark's place in a flipped picture
    Returns boxes (F, 4), landmarks (F, L, 3), ignore (F,). A landmark outside the window loses its weight; with
    `reproduce` it is moved to the border and kept, and all points of a face share the mean weight.
    """
    low = np.array([crop.left, crop.top], np.float32)
    centre = (picture.boxes[:, :2] + picture.boxes[:, 2:]) / 2
    inside = ((centre > low) & (centre < low + crop.side)).all(1)
    scale = np.float32(size / crop.side)
    boxes = (picture.boxes[inside].reshape(-1, 2, 2) - low).clip(0, crop.side) * scale
    boxes = boxes.reshape(-1, 4).clip(0, size)
    landmarks = picture.landmarks[inside].copy()
    points = landmarks[..., :2] - low
    if reproduce:
        landmarks[..., 2:] = landmarks[..., 2:].mean(1, keepdims=True) if landmarks.shape[1] else 0
    else:
        landmarks[..., 2] *= ((points >= 0) & (points <= crop.side)).all(-1)
    landmarks[..., :2] = (points.clip(0, crop.side) * scale).clip(0, size)
    if crop.flip:
        boxes = np.stack([size - boxes[:, 2], boxes[:, 1], size - boxes[:, 0], boxes[:, 3]], 1)
        landmarks[..., 0] = size - landmarks[..., 0]
        landmarks = landmarks[:, mirror]
    return boxes.astype(np.float32), landmarks.astype(np.float32), picture.ignore[inside]
