"""Run a detector over labelled pictures and measure it."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from facetrain.core.errors import DataError
from facetrain.core.faces import Detector, Faces, LabelledImage
from facetrain.core.images import read_image
from facetrain.eval.average_precision import curve, match


@dataclass(frozen=True)
class Report:
    """What was measured on a labelled set.

    ap: average precision at IoU 0.5 over all faces that are not ignored; None where there is none
    """

    ap: float | None
    images: int
    faces: int
    detections: int
    recall: float | None  # of all detections, whatever their score
    unreadable: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def evaluate_detector(
    detector: Detector, pictures: Sequence[LabelledImage], progress: Callable[[int, int], None] | None = None
) -> Report:
    """AP of a detector over labelled pictures. Unreadable pictures are left out and named in the report."""
    found, unreadable = [], []
    used = []
    with ThreadPoolExecutor(1) as pool:  # decodes the next pictures while this one is looked at
        waiting = [pool.submit(read_image, picture.path) for picture in pictures[:4]]
        for number, picture in enumerate(pictures):
            pending = waiting.pop(0)
            if number + 4 < len(pictures):
                waiting.append(pool.submit(read_image, pictures[number + 4].path))
            try:
                image = pending.result()
            except DataError as error:
                unreadable.append(error.message)
            else:
                found.append(detector.detect_batch([image])[0])
                used.append(picture)
            if progress:
                progress(number + 1, len(pictures))
    return measure(found, used, unreadable)


def measure(found: Sequence[Faces], pictures: Sequence[LabelledImage], unreadable: Sequence[str] = ()) -> Report:
    """The report of detections that are already there, one `Faces` a picture."""
    matches = match([(f.boxes, f.scores, p.boxes) for f, p in zip(found, pictures, strict=True)])
    counted = np.concatenate([~picture.ignore for picture in pictures]) if pictures else np.zeros(0, bool)
    result = curve(matches, counted)
    recall = float(result.recall[-1]) if result.faces else None
    return Report(result.ap, len(pictures), result.faces, len(matches.scores), recall, list(unreadable))
