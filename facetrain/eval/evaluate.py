"""Run a detector over labelled pictures and measure it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facetrain.core.errors import DataError
from facetrain.core.faces import Detector, Faces, Image, LabelledImage
from facetrain.eval.average_precision import Curve, curve, match
from facetrain.eval.pipeline import detect_pictures


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
    found = list(detect_pictures(detector, [picture.path for picture in pictures], progress=progress))
    unreadable = [faces.message for faces in found if isinstance(faces, DataError)]
    used = [p for p, faces in zip(pictures, found, strict=True) if isinstance(faces, Faces)]
    return measure([faces for faces in found if isinstance(faces, Faces)], used, unreadable)


def measure(found: Sequence[Faces], pictures: Sequence[LabelledImage], unreadable: Sequence[str] = ()) -> Report:
    """The report of detections that are already there, one `Faces` a picture."""
    result = labelled_curve(found, pictures)
    detections = sum(len(faces) for faces in found)
    recall = float(result.recall[-1]) if result.faces else None
    return Report(result.ap, len(pictures), result.faces, detections, recall, list(unreadable))


def labelled_curve(found: Sequence[Faces], pictures: Sequence[LabelledImage]) -> Curve:
    """The curve over all faces that are not ignored; pictures without faces count with their false alarms."""
    matches = match([(f.boxes, f.scores, p.boxes) for f, p in zip(found, pictures, strict=True)])
    counted = np.concatenate([~picture.ignore for picture in pictures]) if pictures else np.zeros(0, bool)
    return curve(matches, counted)


def size_check(pictures: Sequence[LabelledImage]) -> Callable[[Path, Image], None]:
    """A check for `detect_pictures`: a picture must have the size that its label's header says."""
    sizes = {picture.path: picture.size for picture in pictures}

    def check(path: Path, image: Image) -> None:
        size = sizes[path]
        if size is not None and size != (image.shape[1], image.shape[0]):
            raise DataError(
                f"{path}: {image.shape[1]}x{image.shape[0]} pixels, its label says {size[0]}x{size[1]}",
                "the boxes belong to another size of this picture",
            )

    return check
