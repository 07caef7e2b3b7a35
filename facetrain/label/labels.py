"""From faces that were found to labels: which are faces, which are doubtful, and what of them lies in the image."""

from dataclasses import dataclass
from pathlib import Path

from facetrain.core.errors import UsageError
from facetrain.core.faces import Faces, LabelledImage
from facetrain.data.found import labels_of_faces


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
    return labels_of_faces(path, name, size, faces.at_least(thresholds.ignore), thresholds.score)
