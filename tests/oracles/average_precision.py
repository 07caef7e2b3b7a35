"""The official WIDER FACE AP written out literally, one detection and one threshold at a time."""

from collections.abc import Sequence

Box = Sequence[float]


def iou(a: Box, b: Box) -> float:
    """Overlap of xyxy boxes whose sides are one pixel longer than their corners say."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    area_a = (a[2] - a[0] + 1) * (a[3] - a[1] + 1)
    area_b = (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    return width * height / (area_a + area_b - width * height)


def average_precision(
    pictures: Sequence[tuple[Sequence[Box], Sequence[float], Sequence[Box], Sequence[bool]]], *, skip_empty: bool
) -> tuple[float | None, list[int], list[int]]:
    """AP, and the cumulated proposals and found faces at the 1000 steps.

    pictures: detections, scores, boxes, which boxes count
    skip_empty: detections on pictures without boxes are left out (WIDER FACE), though they take part in normalising
    """
    every = [score for _, scores, _, _ in pictures for score in scores]
    low, high = min(every, default=0.0), max(every, default=0.0)
    faces = sum(sum(map(bool, counted)) for _, _, _, counted in pictures)
    proposals, found = [0] * 1000, [0] * 1000
    for detections, scores, boxes, counted in pictures:
        if skip_empty and not boxes:
            continue
        taken: set[int] = set()
        for index in sorted(range(len(scores)), key=lambda i: -scores[i]):
            score = (scores[index] - low) / (high - low) if high > low else 1.0
            overlaps = [iou(detections[index], box) for box in boxes]
            best = max(overlaps, default=0.0)
            owner = overlaps.index(best) if overlaps else -1
            if best >= 0.5 and not counted[owner]:
                continue
            finds = best >= 0.5 and owner not in taken
            if finds:
                taken.add(owner)
            for t in range(1, 1001):
                if score >= 1 - t / 1000:
                    proposals[t - 1] += 1
                    found[t - 1] += finds
    if faces == 0:
        return None, proposals, found
    precision = [f / a if a else 0.0 for f, a in zip(found, proposals, strict=True)]
    recall = [f / faces for f in found]
    precision, recall = [0.0, *precision, 0.0], [0.0, *recall, 1.0]
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    ap = sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)))
    return ap, proposals, found
