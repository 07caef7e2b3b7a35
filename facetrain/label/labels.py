"""From faces that were found to labels: which are faces, which are doubtful, and what of them lies in the image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facetrain.core.errors import UsageError
from facetrain.core.faces import Faces, LabelledImage


@dataclass(frozen=True)
class Thresholds:
    """What is a label.

    score:  faces with at least this score are labelled
    ignore: those with less, but at least this, are marked to be ignored: neither learnt nor taken for background
    """

    score: float = 0.5
    ignore: float = 0.3

    def __post_init__(self) -> None:
        """Refuse thresholds that mean nothing."""
        if not 0 < self.ignore <= 1:
            raise UsageError(f"`ignore_score` {self.ignore:g}: must be above 0 and at most 1")
        if not self.ignore <= self.score <= 1:
            raise UsageError(
                f"`score` {self.score:g}: must be from `ignore_score`, {self.ignore:g}, to 1",
                "faces between the two are marked to be ignored",
            )


def labels_of(path: Path, name: str, size: tuple[int, int], faces: Faces, thresholds: Thresholds) -> LabelledImage:
    """The labels of an image of (width, height): boxes cut off at its borders, points outside of it missing."""
    limit = np.array(size, np.float32)
    boxes = np.clip(faces.boxes.reshape(-1, 2, 2), 0, limit).reshape(-1, 4)
    kept = (faces.scores >= thresholds.ignore) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, scores, points = boxes[kept], faces.scores[kept], faces.landmarks[kept]
    ignore = scores < thresholds.score
    # written so that NaN, which no detector has given, counts as outside
    inside = ((points >= 0) & (points <= limit)).all(-1) & ~ignore[:, None]  # (F, L)
    landmarks = np.where(inside[..., None], points, -1)
    return LabelledImage(
        path,
        name,
        size,
        boxes.astype(np.float32),
        np.concatenate([landmarks, inside[..., None]], -1).astype(np.float32),
        ignore,
        scores=scores.astype(np.float32),
    )
