"""Weighted boxes fusion: what several detectors say of one image as one list of faces.

R. Solovyev, W. Wang, T. Gabruseva: Weighted boxes fusion: Ensembling boxes from different object detection models.
Image and Vision Computing 107 (2021), arXiv 1910.13302. In contrast to suppression every box counts: faces that agree
become one at their mean place, and one that only some of the detectors see loses score.
"""

from collections.abc import Sequence

import numpy as np

from facetrain.core.boxes import box_iou
from facetrain.core.faces import Faces


def fuse(found: Sequence[Faces], threshold: float = 0.55) -> Faces:
    """The faces of one image by N detectors as one list, best first.

    found:     one a detector, all with L landmarks, NaN where a detector has none
    threshold: IoU above which a face joins those that were fused before it

    Boxes go in the order of their scores; each joins the fused box that it overlaps most, which becomes the mean of its
    members, weighted by score. A fused score is the mean of its T members' times min(T, N) / N. Landmarks are those of
    the best member that has any.
    """
    boxes = np.concatenate([faces.boxes for faces in found]).astype(np.float64)
    scores = np.concatenate([faces.scores for faces in found]).astype(np.float64)
    landmarks = np.concatenate([faces.landmarks for faces in found])
    fused = np.zeros_like(boxes)  # the first `count` rows are used
    members: list[list[int]] = []
    for row in np.argsort(-scores, kind="stable").tolist():
        overlap = box_iou(boxes[row : row + 1], fused[: len(members)])[0]
        best = int(overlap.argmax()) if len(overlap) else -1
        if best >= 0 and overlap[best] > threshold:
            members[best].append(row)
        else:
            best = len(members)
            members.append([row])
        group = members[best]
        weight = np.maximum(scores[group], 1e-9)[:, None]
        fused[best] = (boxes[group] * weight).sum(0) / weight.sum()
    count = len(found)
    confidence = np.array([scores[group].mean() * min(len(group), count) / count for group in members])
    points = np.full((len(members), *landmarks.shape[1:]), np.nan, np.float32)
    for number, group in enumerate(members):  # best first, as they joined
        points[number] = next((landmarks[row] for row in group if not np.isnan(landmarks[row]).all()), np.nan)
    order = np.argsort(-confidence, kind="stable")
    return Faces(fused[: len(members)][order].astype(np.float32), confidence[order].astype(np.float32), points[order])
