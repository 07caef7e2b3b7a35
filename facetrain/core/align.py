"""Faces cut out of images: as squares or boxes, and upright with eyes, nose and mouth where recognisers want them."""

import numpy as np
from numpy.typing import NDArray

from facetrain.core.errors import UsageError
from facetrain.core.faces import Floats, Image
from facetrain.core.images import opencv

# Where the points of a face stand in a crop of 112 pixels: the template that ArcFace and most recognisers since are
# trained with, `arcface_dst` of InsightFace (deepinsight/insightface, python-package/insightface/utils/face_align.py).
TEMPLATE = {
    "right_eye": (38.2946, 51.6963),
    "left_eye": (73.5318, 51.5014),
    "nose": (56.0252, 71.7366),
    "right_mouth": (41.5493, 92.3655),
    "left_mouth": (70.7299, 92.2041),
}
_TEMPLATE_SIDE = 112
Affine = NDArray[np.float64]  # (2, 3): x y of the image -> x y of the crop


def template_columns(names: list[str]) -> list[int]:
    """Which of a network's landmarks the template's are. Raises UsageError where it does not find them all."""
    missing = [name for name in TEMPLATE if name not in names]
    if missing:
        there = f"it has {', '.join(names)}" if names else "it has none"
        raise UsageError(
            f"`align` needs the landmarks {', '.join(TEMPLATE)}; {there}", "choose other weights, or leave it out"
        )
    return [names.index(name) for name in TEMPLATE]


def alignment(points: Floats, side: int) -> Affine | None:
    """The turn, scale and shift that bring five points nearest to the template, in the sense of least squares.

    points: (5, 2) pixels of the image, in the template's order; side: pixels of the crop
    None where the points are all in one place. S. Umeyama, IEEE TPAMI 13 (1991) 376-380, eq. 34 to 43, for the plane.
    """
    source = points.astype(np.float64)
    target = np.array(list(TEMPLATE.values())) * (side / _TEMPLATE_SIDE)
    source_mean, target_mean = source.mean(0), target.mean(0)
    p, q = source - source_mean, target - target_mean
    spread = float((p**2).sum())
    if not np.isfinite(spread) or spread < 1e-6:
        return None
    # In the plane the best turn and scale are one complex number: sum of conj(p) q over sum of |p|².
    a = float((p * q).sum()) / spread
    b = float((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum()) / spread
    turn = np.array([[a, -b], [b, a]])
    return np.concatenate([turn, (target_mean - turn @ source_mean)[:, None]], 1)


def square_of(box: Floats, margin: float, side: int) -> Affine:
    """The scale and shift that show a box, `margin` of its longer side added on each side, as a square crop."""
    low, high = box[:2].astype(np.float64), box[2:].astype(np.float64)
    length = max(float(np.max(high - low)) * (1 + 2 * margin), 1e-3)
    scale = side / length
    shift = side / 2 - 0.5 - scale * ((low + high) / 2 - 0.5)  # from the pixels' borders to their centres
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])


def warped(image: Image, affine: Affine, side: int) -> Image:
    """A crop (side, side, 3). What lies outside of the image is black; pixels are averaged where it becomes smaller."""
    scale = float(np.hypot(affine[0, 0], affine[1, 0]))
    low, high = _seen(affine, side)
    height, width = image.shape[:2]
    beyond = 2 + 1 / max(scale, 1e-3)  # what pixels at the crop's border are averaged from
    low = np.clip(np.floor(low - beyond), 0, (width, height)).astype(int)
    high = np.clip(np.ceil(high + beyond), 0, (width, height)).astype(int)
    if (high <= low).any():
        return np.zeros((side, side, 3), np.uint8)
    cv2 = opencv()
    part = image[low[1] : high[1], low[0] : high[0]]
    moved = affine.copy()
    moved[:, 2] += affine[:, :2] @ low
    if scale < 0.5:  # lines between neighbours would leave out pixels
        size = np.maximum(np.round((high - low) * scale * 2), 1).astype(int)
        factors = size / (high - low)
        part = cv2.resize(part, (int(size[0]), int(size[1])), interpolation=cv2.INTER_AREA)
        moved[:, :2] /= factors
        # pixels are counted from their centres: x' = (x + 1/2) * factor - 1/2
        moved[:, 2] += moved[:, :2] @ (0.5 - 0.5 * factors)
    crop: Image = cv2.warpAffine(part, moved, (side, side), flags=cv2.INTER_LINEAR)
    return crop


def _seen(affine: Affine, side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners of the part of the image that a crop shows."""
    corners = np.array([(0, 0), (side, 0), (0, side), (side, side)], np.float64)
    seen = (corners - affine[:, 2]) @ np.linalg.inv(affine[:, :2]).T
    return seen.min(0), seen.max(0)


def cut_out(image: Image, box: Floats, margin: float) -> Image | None:
    """A box with `margin` of its sides added on each side, within the image; None where nothing is left."""
    size = np.array([image.shape[1], image.shape[0]])
    grown = (box[2:] - box[:2]).astype(np.float64) * margin
    low = np.clip(np.floor(box[:2] - grown), 0, size).astype(int)
    high = np.clip(np.ceil(box[2:] + grown), 0, size).astype(int)
    return None if (high <= low).any() else image[low[1] : high[1], low[0] : high[0]]
