"""Views to augment, with landmarks that can be seen in the pixels."""

import numpy as np
import torch

from facetrain.data.view import View

MIRROR = np.array([1, 0, 2, 4, 3])


def view_of(
    image: torch.Tensor, boxes: list | None = None, landmarks: list | None = None, ignore: list | None = None
) -> View:
    """A view with faces of five landmarks; by default all of them are missing."""
    count = len(boxes or [])
    points = landmarks if landmarks is not None else [[(0.0, 0.0, 0.0)] * 5] * count
    return View(
        image,
        np.array(boxes or [], np.float32).reshape(count, 4),
        np.array(points, np.float32).reshape(count, 5, 3),
        np.array(ignore if ignore is not None else [False] * count, bool),
        MIRROR,
    )


def noise(size: int = 24, seed: int = 5) -> torch.Tensor:
    """(3, size, size), in memory as an image of a batch is: channels last."""
    pixels = np.random.default_rng(seed).integers(0, 256, (1, 3, size, size)).astype(np.float32)
    return torch.from_numpy(pixels).contiguous(memory_format=torch.channels_last)[0]


def dot(size: int, x: float, y: float, sigma: float = 1.5) -> torch.Tensor:
    """(3, size, size): black, with one soft bright dot around x y; pixel i covers [i, i + 1)."""
    places = np.arange(size) + 0.5
    pixels = 250 * np.exp(-((places[None] - x) ** 2 + (places[:, None] - y) ** 2) / (2 * sigma**2))
    return torch.from_numpy(pixels.astype(np.float32)).expand(3, -1, -1)


def where_bright(image: torch.Tensor) -> tuple[float, float]:
    """x y of the centre of all brightness."""
    pixels = image[0].double().numpy()
    places = np.arange(len(pixels)) + 0.5
    return float((pixels.sum(0) * places).sum() / pixels.sum()), float((pixels.sum(1) * places).sum() / pixels.sum())
