"""Measure detections on a labelled set of any kind, by the official rules with one subset."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from facetrain.core.errors import DataError
from facetrain.core.faces import Faces, Image, LabelledImage
from facetrain.eval.average_precision import Curve, curve, match


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
