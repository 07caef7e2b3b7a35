"""What became of every detection and of every face: true, false or neither; found or missed.

By the official matching (eval/average_precision.py): a detection belongs to the one box it overlaps most, with an IoU
of at least 0.5 on boxes one pixel longer. The best detection of a face finds it, later ones are false, and what belongs
to an ignored box is dropped: neither true nor false.

N detections of an image, best first, F faces.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetrain.core.faces import Faces, LabelledImage
from facetrain.eval.average_precision import Matches

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Outcome:
    """One image at a score threshold.

    true, false, dropped: (N,) bool, what each detection is; below the threshold it is none of them
    found, missed:        (F,) bool, what became of each face; an ignored one is neither
    owner:                (N,) int64, the face that a true detection found, else -1
    """

    true: Flags
    false: Flags
    dropped: Flags
    found: Flags
    missed: Flags
    owner: NDArray[np.int64]


def outcomes_of(matches: Matches, images: Sequence[LabelledImage]) -> list[Outcome]:
    """What became of every detection, whatever its score, and of every face."""
    ends = np.bincount(matches.image, minlength=len(images)).cumsum()
    results = []
    start = 0
    for image, whole in zip(images, np.split(matches.box, ends[:-1]) if len(images) else [], strict=True):
        box = np.where(whole >= 0, whole - start, -1)
        start += len(image.boxes)
        hit = box >= 0
        dropped = np.zeros(len(box), bool)
        dropped[hit] = image.ignore[box[hit]]
        candidates = np.flatnonzero(hit & ~dropped)
        # detections are best first, so the first that belongs to a face is the one that finds it
        true = np.zeros(len(box), bool)
        true[candidates[np.unique(box[candidates], return_index=True)[1]]] = True
        owner = np.where(true, box, -1)
        seen = np.zeros(len(image.boxes), bool)
        seen[owner[true]] = True
        results.append(Outcome(true, ~true & ~dropped, dropped, seen, ~seen & ~image.ignore, owner))
    return results


def above(outcome: Outcome, faces: Faces, score: float) -> Outcome:
    """The outcome of what scores at least `score`, from that of all detections.

    The best detection of a face is the last to fall below a threshold.
    """
    passed = faces.scores >= score
    true = outcome.true & passed
    owner = np.where(true, outcome.owner, -1)
    found = np.zeros(len(outcome.found), bool)
    found[owner[true]] = True
    counted = outcome.found | outcome.missed
    return Outcome(true, outcome.false & passed, outcome.dropped & passed, found, counted & ~found, owner)
