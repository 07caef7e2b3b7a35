"""Labels that detections make."""

from pathlib import Path

import numpy as np

from facetrain.core.faces import Faces, LabelledImage


def labels_of_faces(path: Path, name: str, size: tuple[int, int], faces: Faces, ignore_below: float) -> LabelledImage:
    """The labels of an image of (width, height): boxes cut off at its borders, points outside of it missing.

    ignore_below: faces of a lower score are to be ignored, and have no landmarks
    """
    limit = np.array(size, np.float32)
    boxes = np.clip(faces.boxes.reshape(-1, 2, 2), 0, limit).reshape(-1, 4)
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, scores, points = boxes[kept], faces.scores[kept], faces.landmarks[kept]
    ignore = scores < ignore_below
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
