"""What a label format has room for, and labels without what one has no room for."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facetrain.core.faces import LabelledImage

_NOWHERE = np.array([-1, -1, 0], np.float32)  # a point that is not there
_BREAKS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")  # lines end at some of them, XML has none of the others


@dataclass(frozen=True)
class Holds:
    """What a format can say besides boxes. Images without faces and names in any letters every format can."""

    landmarks: bool = False
    names: bool = True  # of landmarks, if there are any
    hidden: bool = False  # which points are labelled, but not visible
    ignore: bool = False  # which faces neither reward nor punish
    ignored_landmarks: bool = False  # landmarks of these too
    scores: bool = False
    blanks: bool = True  # in the names of images
    decimals: bool = True  # of pixels
    needs_size: bool = False  # of every image
    asks_for_parts: str = ""  # the program that wants both a train and a val part

    def name(self, name: str) -> bool:
        """Whether an image can have this name: one line without blanks at its ends, where need be without any."""
        if not self.blanks and name.split() != [name]:
            return False
        return name == name.strip() and not _BREAKS.search(name)


def reduced(images: Sequence[LabelledImage], holds: Holds) -> tuple[list[LabelledImage], dict[str, int]]:
    """The same labels without what a format cannot hold, and how many of each kind there were.

    Faces that are to be ignored are left out where the format has no mark for them: as ordinary ones they would teach
    what nobody wants. Images whose names cannot stand there are left out too.
    """
    lost: Counter[str] = Counter()
    named = [image for image in images if holds.name(image.name)]
    lost["images whose names have blanks, left out"] += len(images) - len(named)
    kept = [_reduced(image, holds, lost) for image in named]
    return kept, {what: number for what, number in lost.items() if number}


def _reduced(image: LabelledImage, holds: Holds, lost: Counter[str]) -> LabelledImage:
    """One image without what the format cannot hold; counts that in `lost`."""
    if not holds.ignore and image.ignore.any():
        lost["ignored faces, left out"] += int(image.ignore.sum())
        image = of_faces(image, ~image.ignore)
    there = image.landmarks[..., 2] > 0  # (F, L)
    gone = np.zeros_like(there) if holds.landmarks else there
    if holds.landmarks and not holds.ignored_landmarks:
        gone = there & image.ignore[:, None]
    if gone.any():
        lost["landmarks of ignored faces" if holds.landmarks else "landmarks of faces"] += int(gone.any(1).sum())
        image = replace(image, landmarks=np.where(gone[..., None], _NOWHERE, image.landmarks))
    if image.hidden is not None and not holds.hidden:
        lost["marks of hidden landmarks"] += int((image.hidden & there & ~gone).sum())
        image = replace(image, hidden=None)
    if image.scores is not None and not holds.scores:
        lost["scores"] += int((~np.isnan(image.scores)).sum())
        image = replace(image, scores=None)
    if not holds.decimals:
        lost["boxes with decimals, rounded"] += int((image.boxes != np.rint(image.boxes)).any(1).sum())
    return image


def of_faces(image: LabelledImage, kept: NDArray[np.bool_]) -> LabelledImage:
    """The same image with some of its faces; kept: (F,)."""
    return replace(
        image,
        boxes=image.boxes[kept],
        landmarks=image.landmarks[kept],
        ignore=image.ignore[kept],
        hidden=None if image.hidden is None else image.hidden[kept],
        scores=None if image.scores is None else image.scores[kept],
    )
