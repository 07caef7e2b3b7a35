"""How far two detectors agree on an image."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetrain.core.boxes import box_iou
from facetrain.core.documents.compare import AgreementDocument
from facetrain.core.faces import Faces

SAME_FACE = 0.5  # least IoU of two boxes that are taken for one face


@dataclass(frozen=True)
class Agreement:
    """Two detectors on one image.

    first, second:           the detectors' numbers
    both:                    faces that both found
    only_first, only_second: faces that one of them found alone
    mean_iou:                of the faces that both found; None where there is none
    """

    first: int
    second: int
    both: int
    only_first: int
    only_second: int
    mean_iou: float | None


def agreements(found: Mapping[int, Faces]) -> list[Agreement]:
    """Every pair of detectors, by number."""
    numbers = sorted(found)
    return [_agreement(a, b, found) for i, a in enumerate(numbers) for b in numbers[i + 1 :]]


def same_faces(first: Faces, second: Faces) -> NDArray[np.float64]:
    """IoUs of the faces that both have, highest first.

    Each face belongs to one face of the other side at most: the pair with the highest IoU is taken first, as long as
    that reaches `SAME_FACE`.
    """
    overlaps = box_iou(first.boxes, second.boxes).astype(np.float64)  # (N, K)
    taken = []
    while overlaps.size and np.max(overlaps) >= SAME_FACE:
        row, column = np.unravel_index(int(np.argmax(overlaps)), overlaps.shape)
        taken.append(overlaps[row, column])
        overlaps[row, :] = -1
        overlaps[:, column] = -1
    return np.array(taken, np.float64)


def agreement_dict(agreement: Agreement, names: Mapping[int, str]) -> AgreementDocument:
    """Plain values for JSON, the detectors by name."""
    return {
        "models": [names[agreement.first], names[agreement.second]],
        "both": agreement.both,
        "only_first": agreement.only_first,
        "only_second": agreement.only_second,
        "mean_iou": None if agreement.mean_iou is None else round(agreement.mean_iou, 4),
    }


def _agreement(a: int, b: int, found: Mapping[int, Faces]) -> Agreement:
    overlaps = same_faces(found[a], found[b])
    both = len(overlaps)
    mean = float(overlaps.mean()) if both else None
    return Agreement(a, b, both, len(found[a]) - both, len(found[b]) - both, mean)
