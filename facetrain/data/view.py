"""One image of a batch with its faces, and the transform that moves pixels, boxes, landmarks and ignored regions."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from facetrain.core.faces import Floats

FILL = 128.0  # the grey of what lies outside the labelled image


@dataclass(frozen=True)
class View:
    """A square image and the faces in it, as an augmentation takes and gives them.

    image:     (3, S, S) BGR 0 … 255, on any device; float32 where anything computes with it
    boxes:     (F, 4) float32 xyxy pixels, clipped to 0 … S
    landmarks: (F, L, 3) float32 x, y, weight (0: missing)
    ignore:    (F,) bool, neither a face to learn nor background
    mirror:    (L,) int64, the landmark that takes each landmark's place in a mirrored image
    """

    image: Tensor
    boxes: Floats
    landmarks: Floats
    ignore: NDArray[np.bool_]
    mirror: NDArray[np.int64]

    @property
    def size(self) -> int:
        """S, in pixels."""
        return self.image.shape[-1]


def move(view: View, matrix: Floats) -> View:
    """The view under an affine map of its pixels.

    matrix: (2, 3) float32, from x y of the view to x y of the result; pixel i covers [i, i + 1)

    Where the map turns or mirrors the square onto itself all is exact. Otherwise pixels are resampled bilinearly, with
    black where nothing comes from. A box becomes the one around the ellipse that filled it, as a face does: around the
    turned corners it would be up to twice as large. An ignored region keeps its corners, or some of it would become
    background. A face whose centre leaves is dropped and a landmark outside loses its weight, as where crops are cut.
    """
    size, exact = view.size, _onto_itself(matrix, view.size)
    boxes = _around_corners(view.boxes, matrix)
    if (matrix[:, :2] == 0).sum() != 2:  # where sides stay upright, it is the same box, and corners are exact
        boxes = np.where(view.ignore[:, None], boxes, _around_ellipses(view.boxes, matrix))
    landmarks = view.landmarks.copy()
    points = _moved(landmarks[..., :2], matrix)
    landmarks[..., 2] *= ((points >= 0) & (points <= size)).all(-1)
    landmarks[..., :2] = points.clip(0, size)
    if matrix[0, 0] * matrix[1, 1] < matrix[0, 1] * matrix[1, 0]:
        landmarks = landmarks[:, view.mirror]
    boxes = boxes.clip(0, size)
    if exact:
        return replace(view, image=_turned(view.image, matrix), boxes=boxes, landmarks=landmarks)
    centres = _moved((view.boxes[:, :2] + view.boxes[:, 2:]) / 2, matrix)
    kept = ((centres > 0) & (centres < size)).all(1)
    image = _resampled(view.image, matrix)
    return replace(view, image=image, boxes=boxes[kept], landmarks=landmarks[kept], ignore=view.ignore[kept])


def _moved(points: Floats, matrix: Floats) -> Floats:
    """Points (…, 2) under the map. Products with 0, 1 and -1 are exact: a mirrored x is `size - x` to the last bit."""
    moved: Floats = points[..., :1] * matrix[:, 0] + points[..., 1:] * matrix[:, 1] + matrix[:, 2]
    return moved


def _around_corners(boxes: Floats, matrix: Floats) -> Floats:
    corners = _moved(np.stack([boxes[:, [0, 2, 0, 2]], boxes[:, [1, 1, 3, 3]]], -1), matrix)  # (F, 4, 2)
    return np.concatenate([corners.min(1), corners.max(1)], 1)


def _around_ellipses(boxes: Floats, matrix: Floats) -> Floats:
    centres = _moved((boxes[:, :2] + boxes[:, 2:]) / 2, matrix)
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    # the largest x on an ellipse of half-axes w, h under x' = a x + b y is the length of (a w, b h)
    reach = np.sqrt(half[:, :1] ** 2 * matrix[:, 0] ** 2 + half[:, 1:] ** 2 * matrix[:, 1] ** 2)
    return np.concatenate([centres - reach, centres + reach], 1)


def _onto_itself(matrix: Floats, size: int) -> bool:
    """Whether the map is one of the eight symmetries of the square."""
    (a, b, x), (c, d, y) = matrix.tolist()
    permutes = (abs(a), abs(b), abs(c), abs(d)) in ((1, 0, 0, 1), (0, 1, 1, 0))
    return permutes and (x, y) == (size if a + b < 0 else 0, size if c + d < 0 else 0)


def _turned(image: Tensor, matrix: Floats) -> Tensor:
    """Pixels (3, S, S) under a symmetry of the square, in memory of their own."""
    pixels = image[None]  # torch mirrors four dimensions in channels_last several times faster than three
    if matrix[0, 0] == 0:
        pixels = pixels.transpose(2, 3)
    return pixels.flip([axis for axis, row in ((3, matrix[0]), (2, matrix[1])) if row[0] + row[1] < 0])[0]


def _resampled(image: Tensor, matrix: Floats) -> Tensor:
    """Pixels (3, S, S) under any affine map: bilinear, black outside."""
    back = np.linalg.inv(matrix[:, :2].astype(np.float64))
    # grid_sample counts from -1 to 1 over the image's width
    shift = back @ (1 - 2 * matrix[:, 2:] / image.shape[-1]) - 1
    theta = torch.from_numpy(np.concatenate([back, shift], 1)[None]).float().to(image.device)
    grid = F.affine_grid(theta, [1, *image.shape], align_corners=False)
    return F.grid_sample(image[None], grid, padding_mode="zeros", align_corners=False)[0]
