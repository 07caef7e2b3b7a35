"""Boxes, overlap, suppression and padding in NumPy: the reference for the torch twins in model/priors.py."""

import numpy as np

from facetrain.core.faces import Floats, Image


def box_area(boxes: Floats) -> Floats:
    """Areas of (N, 4) xyxy boxes, (N,). A box turned inside out has area 0."""
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    area: Floats = sides[:, 0] * sides[:, 1]
    return area


def box_iou(a: Floats, b: Floats) -> Floats:
    """Intersection over union of every pair. a: (N, 4), b: (K, 4), xyxy. Returns (N, K); 0 where both are empty."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])  # (N, K, 2)
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.clip(high - low, 0, None)
    overlap = sides[..., 0] * sides[..., 1]
    union = box_area(a)[:, None] + box_area(b)[None] - overlap
    iou: Floats = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return iou


def nms(boxes: Floats, scores: Floats, threshold: float) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Greedy non-maximum suppression: keep the best, drop what overlaps it by IoU > threshold, and so on.

    boxes: (N, 4) xyxy; scores: (N,). Returns the kept indices, best first; equal scores keep their order.
    """
    order = np.argsort(-scores, kind="stable")
    x1, y1, x2, y2 = (np.ascontiguousarray(boxes[order, i]) for i in range(4))
    area = np.clip(x2 - x1, 0, None) * np.clip(y2 - y1, 0, None)
    alive = np.ones(len(order), bool)
    kept = []
    for i in range(len(order)):
        if not alive[i]:
            continue
        kept.append(i)
        rest = slice(i + 1, None)
        width = np.minimum(x2[i], x2[rest]) - np.maximum(x1[i], x1[rest])
        height = np.minimum(y2[i], y2[rest]) - np.maximum(y1[i], y1[rest])
        overlap = np.clip(width, 0, None) * np.clip(height, 0, None)
        # overlap / union > threshold, without dividing by an empty union
        alive[rest] &= ~(overlap > threshold * (area[i] + area[rest] - overlap))
    return order[kept]


def padded_size(width: int, height: int, multiple: int) -> tuple[int, int]:
    """The smallest (width, height) that holds the image and is a multiple of `multiple` on both sides."""
    return -(-width // multiple) * multiple, -(-height // multiple) * multiple


def pad_image(image: Image, width: int, height: int) -> Image:
    """Put an image into the top left corner of a black one of width x height; unchanged if it fits exactly."""
    if image.shape[:2] == (height, width):
        return image
    canvas = np.zeros((height, width, image.shape[2]), image.dtype)
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas
