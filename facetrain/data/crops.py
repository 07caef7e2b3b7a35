"""Which square of an image becomes a training image, and where the faces are in it. NumPy, no pixels.

Every draw comes from (seed, epoch, position in the epoch): the same whatever the number of workers, processes or the
place where images are kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facetrain.config.schema import DataConfig
from facetrain.core.faces import Floats, LabelledImage
from facetrain.data.augmentations import draw_augmentations

CropFaces = tuple[Floats, Floats, NDArray[np.bool_]]  # boxes (F, 4), landmarks (F, L, 3), ignore (F,)

TRIES = 250  # places tried for one scale before another scale is drawn
FIRST = 8  # of these, looked at before the others
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
    drawn: Mapping[str, object] = field(default_factory=dict)


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
    largest = (faces[:, 2:] - faces[:, :2]).min(1) * (config.size / config.min_face) if config.min_face else None
    left, top, side = _window(rng, image.size, centres, largest, config.crop_scales, config.reproduce)
    return Crop(index, left, top, side, draw_augmentations(config, rng, seed, epoch, position))


def _window(
    rng: np.random.Generator,
    size: tuple[int, int],
    centres: NDArray[np.floating],
    largest: NDArray[np.floating] | None,
    scales: tuple[float, ...],
    reproduce: bool,
) -> tuple[int, int, int]:
    """Left, top and side of a window with a face's centre strictly inside, if one is found.

    centres: (F, 2); largest: (F,) the largest side of a window in which the face still counts, None for any
    """
    width, height = size
    short = min(width, height)
    scale = scales[int(rng.integers(len(scales)))]
    for _ in range(ROUNDS):
        side = max(1, int(scale * short))
        lefts = _offsets(rng, width, side, reproduce)
        tops = _offsets(rng, height, side, reproduce)
        if len(centres) == 0:
            break
        counting = centres if largest is None else centres[side <= largest]
        for tries in (slice(0, FIRST), slice(FIRST, TRIES)):  # mostly one of the first has a face
            hit = _first_with_face(lefts[tries], tops[tries], side, counting)
            if hit is not None:
                return int(lefts[tries][hit]), int(tops[tries][hit]), side
        # a growing window reaches faces outside of the image, but makes those in it smaller
        grows = max(scales) <= 1 and (largest is None or not np.isfinite(largest).any())
        scale = scale * 1.2 if grows else scales[int(rng.integers(len(scales)))]
    return int(lefts[0]), int(tops[0]), side


def _first_with_face(
    lefts: NDArray[np.int64], tops: NDArray[np.int64], side: int, centres: NDArray[np.floating]
) -> int | None:
    """The first of the windows (W,) that has one of the centres (F, 2) strictly inside."""
    x, y, left, top = centres[:, 0], centres[:, 1], lefts[:, None], tops[:, None]
    inside = np.any((left < x) & (x < left + side) & (top < y) & (y < top + side), axis=1)  # (W,)
    first = int(np.argmax(inside))
    return first if inside[first] else None


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
    faces, _ = faces_of_crops([image], [crop], size, reproduce, min_face=min_face, min_visible=min_visible)
    return faces


def faces_of_crops(
    images: Sequence[LabelledImage],
    crops: Sequence[Crop],
    size: int,
    reproduce: bool,
    *,
    min_face: float = 0.0,
    min_visible: float = 0.0,
) -> tuple[CropFaces, NDArray[np.int64]]:
    """`crop_faces` of each crop of its image, one after the other, and how many there are of each: (B,).

    In one pass over all of them: a call of NumPy takes longer than what it does with the few faces of an image.
    """
    counts = [len(image.boxes) for image in images]
    of_crop = np.repeat(np.arange(len(crops)), counts)  # (F,)
    windows = np.array([(crop.left, crop.top, crop.side) for crop in crops], np.int64)
    low, side = windows[:, :2].astype(np.float32)[of_crop], windows[:, 2:].astype(np.float32)[of_crop]  # (F, 2), (F, 1)
    whole = np.concatenate([image.boxes for image in images])
    centre = (whole[:, :2] + whole[:, 2:]) / 2
    inside = ((centre > low) & (centre < low + side)).all(1)
    of_crop, low, side, whole = of_crop[inside], low[inside], side[inside], whole[inside]
    scale = (size / windows[:, 2:]).astype(np.float32)[of_crop]  # (F, 1)
    low, edge, zoom = low[:, None], side[:, None], scale[:, None]
    boxes = (whole.reshape(-1, 2, 2) - low).clip(0, edge) * zoom
    boxes = boxes.reshape(-1, 4).clip(0, size)
    landmarks = np.concatenate([image.landmarks for image in images])[inside]
    points = landmarks[..., :2] - low
    if reproduce:
        landmarks[..., 2:] = landmarks[..., 2:].mean(1, keepdims=True) if landmarks.shape[1] else 0
    else:
        landmarks[..., 2] *= ((points >= 0) & (points <= edge)).all(-1)
    landmarks[..., :2] = (points.clip(0, edge) * zoom).clip(0, size)
    ignore = np.concatenate([image.ignore for image in images])[inside]
    if min_face or min_visible:
        smallest = (min_face / scale[:, 0].astype(np.float64)).astype(np.float32)
        ignore = ignore | _too_little(whole, boxes / scale, smallest, min_visible)
    kept = np.bincount(of_crop, minlength=len(crops))
    return (boxes.astype(np.float32), landmarks.astype(np.float32), ignore), kept


def _too_little(whole: Floats, seen: Floats, min_face: Floats, min_visible: float) -> NDArray[np.bool_]:
    """Which faces are too small, or show too little of themselves. whole, seen: (F, 4) xyxy; min_face: (F,)."""
    sides, visible = whole[:, 2:] - whole[:, :2], seen[:, 2:] - seen[:, :2]
    small = sides.min(1) < min_face
    hidden = visible.prod(1) < min_visible * sides.prod(1) * (1 - 1e-5)  # a whole face is one in float32, too
    little: NDArray[np.bool_] = np.logical_or(small, hidden)
    return little
