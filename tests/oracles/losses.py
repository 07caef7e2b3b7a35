"""The losses of YuNet for one box, one number or one face at a time, in double precision, from their formulas."""

import math
from collections.abc import Sequence

Box = Sequence[float]  # x1 y1 x2 y2
EPS = 1e-6


def area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def overlap(p: Box, t: Box) -> float:
    width, height = min(p[2], t[2]) - max(p[0], t[0]), min(p[3], t[3]) - max(p[1], t[1])
    return max(width, 0.0) * max(height, 0.0)


def union(p: Box, t: Box) -> float:
    return area(p) + area(t) - overlap(p, t)


def iou(p: Box, t: Box) -> float:
    return overlap(p, t) / max(union(p, t), EPS)


def giou(p: Box, t: Box) -> float:
    hull = max((max(p[2], t[2]) - min(p[0], t[0])) * (max(p[3], t[3]) - min(p[1], t[1])), EPS)
    return iou(p, t) - (hull - max(union(p, t), EPS)) / hull


def diou(p: Box, t: Box) -> float:
    centres = ((p[0] + p[2] - t[0] - t[2]) / 2) ** 2 + ((p[1] + p[3] - t[1] - t[3]) / 2) ** 2
    diagonal = (max(p[2], t[2]) - min(p[0], t[0])) ** 2 + (max(p[3], t[3]) - min(p[1], t[1])) ** 2
    return overlap(p, t) / (union(p, t) + EPS) - centres / (diagonal + EPS)


def aspect(p: Box, t: Box) -> float:
    """The v of CIoU."""
    angle_t = math.atan((t[2] - t[0]) / (t[3] - t[1] + EPS))
    angle_p = math.atan((p[2] - p[0]) / (p[3] - p[1] + EPS))
    return 4 / math.pi**2 * (angle_t - angle_p) ** 2


def alpha(p: Box, t: Box) -> float:
    """The weight of CIoU's aspect term, a constant for the gradient."""
    plain, v = overlap(p, t) / (union(p, t) + EPS), aspect(p, t)
    return v / (1 - plain + v) if plain > 0.5 and 1 - plain + v > 0 else 0.0


def ciou(p: Box, t: Box, weight: float | None = None) -> float:
    """With `weight` in place of alpha, to differentiate with alpha held still."""
    weight = alpha(p, t) if weight is None else weight
    return min(max(diou(p, t) - weight * aspect(p, t), -1.0), 1.0)


def extended_iou_loss(p: Box, t: Box, eps: float = EPS) -> float:
    ex, ey = min(p[0], t[0]), min(p[1], t[1])
    ax, ay = max(p[0], t[0]), max(p[1], t[1])
    bx, by = min(p[2], t[2]), min(p[3], t[3])

    def corner(x: float, y: float) -> float:
        return (x - ex) * (y - ey)

    shared = corner(bx, by) + corner(min(ax, bx), min(ay, by)) - corner(ax, max(ay, by)) - corner(max(ax, bx), ay)
    r = 1 - shared / (area(p) + area(t) - shared + eps)
    return r**2 / 0.2 if r < 0.1 else r - 0.05


BOX_LOSSES = {
    "iou": lambda p, t: 1 - iou(p, t),
    "giou": lambda p, t: 1 - giou(p, t),
    "diou": lambda p, t: 1 - diou(p, t),
    "ciou": lambda p, t: 1 - ciou(p, t),
    "eiou": extended_iou_loss,
}


def binary(z: float, y: float) -> float:
    return max(z, 0.0) - z * y + math.log1p(math.exp(-abs(z)))


def smooth_l1(e: float) -> float:
    beta = 1 / 9
    return e**2 / (2 * beta) if abs(e) < beta else abs(e) - beta / 2


def published_landmark_loss(predicted: Sequence[Box], target: Sequence[Box], flags: Sequence[Sequence[float]]) -> float:
    """One weight a face, the mean of its flags; ten numbers a face. predicted, target, flags: a row per positive."""
    weights = [sum(row) / len(row) for row in flags]
    total = sum(
        weight * sum(smooth_l1(a - b) for a, b in zip(some, wanted, strict=True))
        for weight, some, wanted in zip(weights, predicted, target, strict=True)
    )
    return total / (sum(weights) + 2.0**-23)


def point_landmark_loss(predicted: Sequence[Box], target: Sequence[Box], flags: Sequence[Sequence[float]]) -> float:
    """Each point with its own flag, over the same normaliser."""
    total = 0.0
    for some, wanted, row in zip(predicted, target, flags, strict=True):
        for k, flag in enumerate(row):
            if flag > 0:
                total += flag * sum(smooth_l1(some[2 * k + i] - wanted[2 * k + i]) for i in range(2))
    return total / (sum(sum(row) / len(row) for row in flags) + 2.0**-23)
