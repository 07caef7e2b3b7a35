"""SimOTA as loops over priors and faces of one image, in double precision, from its description alone.

Slow and plain on purpose. Where two choices are nearly equal, the description leaves them open (and float32 rounds):
`margin` says how far the closest decision was from falling the other way.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

Box = Sequence[float]  # x1 y1 x2 y2
Prior = Sequence[float]  # x y stride

# float32 coordinates of up to 256 pixels are off by about this much after decoding
_COORDINATE_ERROR = 3e-5


@dataclass
class Assignment:
    """Per prior the number of its face, or -1, and their IoU; the rest tells how it came about."""

    matched: list[int]
    quality: list[float]
    candidates: list[int] = field(default_factory=list)
    k: list[int] = field(default_factory=list)  # of each face
    selected: list[list[int]] = field(default_factory=list)  # by each face
    conflicts: list[int] = field(default_factory=list)  # priors that several faces selected
    surprises: list[int] = field(default_factory=list)  # conflicts that went to a face that had not selected the prior
    margin: float = math.inf


def simota(
    priors: Sequence[Prior],
    cls: Sequence[float],
    obj: Sequence[float],
    offsets: Sequence[Sequence[float]],
    faces: Sequence[Box],
    *,
    radius: float = 2.5,
    best: int = 10,
    iou_weight: float = 3.0,
    penalty: float = 100000.0,
    tiny: float = 1e-7,
    floor: float = -100.0,
) -> Assignment:
    """Assign the priors of one image. cls, obj: logits; offsets: raw box numbers; faces: those that count."""
    result = Assignment([-1] * len(priors), [0.0] * len(priors))
    boxes = [decode(raw, prior) for raw, prior in zip(offsets, priors, strict=True)]

    for p, prior in enumerate(priors):
        if any(is_inside(prior, face) or is_near(prior, face, radius) for face in faces):
            result.candidates.append(p)
    if not result.candidates:
        return result

    overlap: dict[tuple[int, int], float] = {}
    cost: dict[tuple[int, int], float] = {}
    doubt: dict[tuple[int, int], float] = {}
    for p in result.candidates:
        for g, face in enumerate(faces):
            u = iou(boxes[p], face)
            both = is_inside(priors[p], face) and is_near(priors[p], face, radius)
            overlap[p, g] = u
            cost[p, g] = (
                -max(log_sqrt_score(cls[p], obj[p]), floor)
                + iou_weight * (-math.log(u + tiny))
                + penalty * (0 if both else 1)
            )
            doubt[p, g] = iou_weight * _iou_error(boxes[p], face) / (u + tiny) if u > 0 else 0.0

    for g in range(len(faces)):
        total = sum(sorted((overlap[p, g] for p in result.candidates), reverse=True)[:best])
        k = max(1, math.floor(total))
        if total > 1.5:
            result.margin = min(result.margin, abs(total - round(total)))
        order = sorted(result.candidates, key=lambda p: cost[p, g])
        result.k.append(k)
        result.selected.append(order[:k])
        if k < len(order):
            last, next_ = (order[k - 1], g), (order[k], g)
            result.margin = min(result.margin, cost[next_] - cost[last] - doubt[next_] - doubt[last])

    for p in result.candidates:
        by = [g for g in range(len(faces)) if p in result.selected[g]]
        if len(by) == 1:
            result.matched[p] = by[0]
        elif len(by) > 1:
            first, second = sorted(range(len(faces)), key=lambda g: cost[p, g])[:2]
            result.margin = min(result.margin, cost[p, second] - cost[p, first] - doubt[p, second] - doubt[p, first])
            result.matched[p] = first
            result.conflicts.append(p)
            if first not in by:
                result.surprises.append(p)
        if by:
            result.quality[p] = overlap[p, result.matched[p]]
    return result


def decode(raw: Sequence[float], prior: Prior) -> Box:
    """Box of a prior that stands at its cell's corner."""
    x, y, s = prior
    cx, cy = x + raw[0] * s, y + raw[1] * s
    w, h = s * math.exp(raw[2]), s * math.exp(raw[3])
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def log_sqrt_score(cls: float, obj: float) -> float:
    """ln sqrt(sigmoid(cls) * sigmoid(obj)), of any logits."""
    return (log_sigmoid(cls) + log_sigmoid(obj)) / 2


def log_sigmoid(z: float) -> float:
    return -math.log1p(math.exp(-z)) if z > 0 else z - math.log1p(math.exp(z))


def is_inside(prior: Prior, face: Box) -> bool:
    """Whether the cell's centre lies strictly inside the face."""
    x, y, s = prior
    cx, cy = x + s / 2, y + s / 2
    return cx - face[0] > 0 and cy - face[1] > 0 and face[2] - cx > 0 and face[3] - cy > 0


def is_near(prior: Prior, face: Box, radius: float) -> bool:
    """Whether the cell's centre lies strictly inside a square around the face's centre."""
    x, y, s = prior
    cx, cy = x + s / 2, y + s / 2
    gx, gy = (face[0] + face[2]) / 2, (face[1] + face[3]) / 2
    return gx - radius * s < cx < gx + radius * s and gy - radius * s < cy < gy + radius * s


def iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = width * height if width > 0 and height > 0 else 0.0
    union = area(a) + area(b) - shared
    return shared / max(union, 1e-6)


def area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _iou_error(a: Box, b: Box) -> float:
    """How far a float32 IoU of these boxes may be from ours."""
    sides = a[2] - a[0] + a[3] - a[1] + b[2] - b[0] + b[3] - b[1]
    return _COORDINATE_ERROR * sides / max(area(a) + area(b), 1e-6)
