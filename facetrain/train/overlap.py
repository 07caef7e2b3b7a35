"""How far boxes overlap, pair by pair, for assigners and losses. Boxes are (…, 4) xyxy, and broadcast."""

import torch
from torch import Tensor

EPS = 1e-6


def box_iou_pairs(a: Tensor, b: Tensor, eps: float = EPS) -> Tensor:
    """IoU of boxes pair by pair, union floored at eps. a, b: (…, 4) xyxy. Returns (…)."""
    overlap, union = overlap_and_union(a, b)
    return overlap / union.clamp(min=eps)


def giou_pairs(a: Tensor, b: Tensor) -> Tensor:
    """GIoU (Rezatofighi et al., 2019), -1 … 1: IoU less the empty share of the hull. Returns (…)."""
    overlap, union = overlap_and_union(a, b)
    low, high = hull(a, b)
    whole = ((high - low)[..., 0] * (high - low)[..., 1]).clamp(min=EPS)
    return overlap / union.clamp(min=EPS) - (whole - union.clamp(min=EPS)) / whole


def area(boxes: Tensor) -> Tensor:
    """Areas (…), negative where a box is turned inside out in one direction."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def overlap_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union, pair by pair."""
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    overlap = sides[..., 0] * sides[..., 1]
    return overlap, area(a) + area(b) - overlap


def hull(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Upper left and lower right corners (…, 2) of the smallest boxes around both."""
    return torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])
