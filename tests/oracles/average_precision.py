"""The official WIDER FACE average precision, one detection and one threshold at a time, from its description."""

from collections.abc import Sequence
from dataclasses import dataclass

Box = Sequence[float]  # x y w h
Detection = Sequence[float]  # x y w h score
STEPS = 1000


@dataclass
class Image:
    """An image's detections and boxes, and which of the boxes count."""

    detections: list[Detection]
    boxes: list[Box]
    counted: list[bool]


@dataclass
class Result:
    """AP, None where no face counts; and proposals and found faces at each threshold, falling."""

    ap: float | None
    proposals: list[int]
    found: list[int]


def official(images: Sequence[Image], *, pixel: float = 1.0, skip_empty: bool = False) -> Result:
    """pixel: what is added to every side; skip_empty: whether images without boxes give no false alarms."""
    scores = [detection[4] for image in images for detection in image.detections]
    low, high = (min(scores), max(scores)) if scores else (0.0, 0.0)

    proposals, found = [0] * STEPS, [0] * STEPS
    for image in images:
        if not image.detections or (skip_empty and not image.boxes):
            continue
        taken: set[int] = set()
        entries = []  # (normalised score, is a proposal, finds a face)
        for detection in sorted(image.detections, key=lambda d: -d[4]):
            score = (detection[4] - low) / (high - low) if high > low else 1.0
            best, best_overlap = -1, 0.0
            for number, box in enumerate(image.boxes):
                overlap = iou(detection[:4], box, pixel)
                if best < 0 or overlap > best_overlap:
                    best, best_overlap = number, overlap
            if best < 0 or best_overlap < 0.5:
                entries.append((score, True, False))
            elif image.counted[best]:
                entries.append((score, True, best not in taken))
                taken.add(best)
        for t in range(1, STEPS + 1):
            threshold = 1 - t / STEPS
            proposals[t - 1] += sum(score >= threshold and proposal for score, proposal, _ in entries)
            found[t - 1] += sum(score >= threshold and new for score, _, new in entries)

    faces = sum(sum(image.counted) for image in images)
    if faces == 0:
        return Result(None, proposals, found)
    precision = [f / a if a else 0.0 for f, a in zip(found, proposals, strict=True)]
    recall = [f / faces for f in found]
    return Result(area([0.0, *recall, 1.0], [0.0, *precision, 0.0]), proposals, found)


def area(recall: Sequence[float], precision: Sequence[float]) -> float:
    """Below the curve, each precision replaced by the largest of itself and all later ones."""
    total = 0.0
    for i in range(1, len(recall)):
        total += (recall[i] - recall[i - 1]) * max(precision[i:])
    return total


def iou(a: Box, b: Box, pixel: float) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]) + pixel
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]) + pixel
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] + pixel) * (a[3] + pixel) + (b[2] + pixel) * (b[3] + pixel) - shared)
