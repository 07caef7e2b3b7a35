"""Judges the labels of a set: what cannot be right is found, counted, and left out or clipped; too much is refused.

Pure: labels and image sizes in, labels and findings out. A set in which nothing is found keeps its very arrays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from facetrain.core.documents.check import FindingDocument, KindDocument, LabelsDocument
from facetrain.core.faces import LabelledImage
from facetrain.core.image_header import Header
from facetrain.data.plausibility.kinds import BOX_KINDS, KINDS, OTHER_KINDS, Kind
from facetrain.data.plausibility.points import NO_POINTS, Points
from facetrain.data.plausibility.sizes import misfit
from facetrain.data.plausibility.table import Doubles, FaceTable, Mask, face_table

LIMIT = 0.1  # share of a kind above which labels are refused
_SHOWN = 10  # findings of a kind that are listed
SIZE = "size"
SIZE_WORDS = "image has another size than its labels say", "images have another size than their labels say"


@dataclass(frozen=True)
class Finding:
    """A face, or an image, that cannot be right.

    face:  its index in the image as read; None where it is about the image, or had no area
    value: what the labels say, in words
    """

    kind: str
    image: str
    face: int | None
    value: str


@dataclass(frozen=True)
class Counted:
    """How many are of a kind.

    of:    how many could have been: faces, faces with landmarks, or images
    first: some of them
    """

    kind: str
    count: int
    of: int
    first: tuple[Finding, ...]
    done: str
    words: str
    refused: bool = False

    @property
    def share(self) -> float:
        """0 … 1."""
        return self.count / max(1, self.of)

    @property
    def line(self) -> str:
        """In words: how many, what was done, and the first."""
        first = self.first[0]
        where = f"{first.image}: {first.value}" if first.value else first.image
        done = {"clipped": "clipped to it", "kept": "kept"}.get(self.done, self.done)
        what = "refused" if self.refused else done
        return f"{self.count:,} {self.words} ({self.share:.1%}; {what}), the first in {where}"


@dataclass(frozen=True)
class Judgement:
    """What was found in a set's labels.

    images: as they may be used: with some boxes left out or clipped, if that was asked for
    table:  all faces as read; masks: by kind, which of them were found
    """

    images: list[LabelledImage]
    kinds: tuple[Counted, ...] = ()
    table: FaceTable | None = field(default=None, repr=False)
    masks: Mapping[str, Mask] = field(default_factory=dict, repr=False)

    @property
    def lines(self) -> list[str]:
        """A line for each kind that was found."""
        return [kind.line for kind in self.kinds]

    @property
    def remarks(self) -> list[str]:
        """A line for each kind that something was done about, and one for all others."""
        lines = [kind.line for kind in self.kinds if kind.done != "kept"]
        kept = [f"{kind.count:,} {kind.words}" for kind in self.kinds if kind.done == "kept"]
        return lines + ([f"kept as they are: {', '.join(kept)}"] if kept else [])

    def as_dict(self) -> LabelsDocument:
        """The JSON document."""
        done = {kind.kind: kind.count for kind in self.kinds if kind.done != "kept"}
        kinds: list[KindDocument] = []
        for kind in self.kinds:
            some: list[FindingDocument] = [
                {"image": one.image, "face": one.face, "value": one.value} for one in kind.first
            ]
            kinds.append(
                {
                    "kind": kind.kind,
                    "words": kind.words,
                    "count": kind.count,
                    "of": kind.of,
                    "done": kind.done,
                    "first": some,
                }
            )
        return {"changed": sum(done.values()), "kinds": kinds}


def judge(
    images: Sequence[LabelledImage],
    points: Points,
    sizes: Mapping[str, Header],
    flat: Sequence[LabelledImage] = (),
    *,
    act: bool = True,
) -> Judgement:
    """Find what cannot be right in the labels of a set.

    sizes: of the image files by name; of those that are not there, nothing
    flat:  the images with the boxes alone that the reader left out, for they have no area
    act:   whether boxes are left out and clipped; otherwise all of it is reported only
    """
    misfits = {image.name: text for image in images if (text := misfit(image.size, sizes.get(image.name)))}
    upright = {name: size.upright for name, size in sizes.items()}
    table = _with_flat(images, face_table(images, upright), face_table(flat, upright), flat)
    masks = masks_of(table, points if table.landmarks.shape[1] else NO_POINTS)
    kinds = []
    for name, mask in masks.items():
        if mask.any():
            kinds.append(_counted(name, KINDS[name], mask, table, images, act=act))
    if misfits:
        first = tuple(Finding(SIZE, name, None, text) for name, text in [*misfits.items()][:_SHOWN])
        done = "left out" if act else "kept"
        kinds.append(Counted(SIZE, len(misfits), len(images), first, done, SIZE_WORDS[len(misfits) > 1]))
    used = _acted(images, table, masks, set(misfits)) if act else list(images)
    return Judgement(used, tuple(kinds), table, masks)


def masks_of(table: FaceTable, points: Points) -> dict[str, Mask]:
    """By kind: which faces are of it. A box is of one kind only; rules for landmarks go by boxes that can be right."""
    left = np.ones(len(table), bool)
    masks = {}
    for name, kind in BOX_KINDS.items():
        masks[name] = kind.find(table, points) & left
        left &= ~masks[name] | kind.needs_look
    for name, kind in OTHER_KINDS.items():
        masks[name] = kind.find(table, points) & left
    return masks


def _with_flat(
    images: Sequence[LabelledImage], table: FaceTable, flat: FaceTable, owners: Sequence[LabelledImage]
) -> FaceTable:
    """The table with the boxes without area behind all others, and -1 in place of their index in the image."""
    if not len(flat):
        return table
    numbers = {image.name: number for number, image in enumerate(images)}
    own = np.array([numbers[image.name] for image in owners], np.int64)
    return FaceTable(
        boxes=np.concatenate([table.boxes, flat.boxes]),
        sizes=np.concatenate([table.sizes, flat.sizes]),
        landmarks=np.concatenate([table.landmarks, flat.landmarks]),
        ignore=np.concatenate([table.ignore, flat.ignore]),
        image=np.concatenate([table.image, own[flat.image]]),
        face=np.concatenate([table.face, np.full(len(flat), -1)]),
    )


def _counted(
    name: str, kind: Kind, mask: Mask, table: FaceTable, images: Sequence[LabelledImage], *, act: bool
) -> Counted:
    count = int(mask.sum())
    of = int(table.with_landmarks.sum()) if kind.of == "landmarks" else len(table)
    first = []
    rows = np.flatnonzero(mask)
    for row in rows[np.argsort(table.image[rows], kind="stable")][:_SHOWN]:
        face = int(table.face[row])
        image = images[table.image[row]]
        first.append(Finding(name, image.name, face if face >= 0 else None, _value(table, int(row), kind)))
    # boxes without area were left out by the reader, whatever is asked for here
    done = kind.done if act or (table.face[mask] < 0).all() else "kept"
    return Counted(name, count, of, tuple(first), done, kind.words[count > 1])


def _value(table: FaceTable, row: int, kind: Kind) -> str:
    """A face as a person can find it in the labels: its corners, with its image's size or its landmarks."""
    box = " ".join(f"{value:.6g}" for value in table.boxes[row])
    if kind.of == "landmarks":
        there = table.landmarks[row][np.isfinite(table.landmarks[row]).all(-1)]
        return f"box {box}, landmarks {' '.join(f'{value:.5g}' for value in there.ravel()[:12])}"
    if np.isfinite(table.sizes[row]).all():
        width, height = table.sizes[row]
        return f"{box} of {width:.0f}x{height:.0f}"
    return box


def _acted(
    images: Sequence[LabelledImage], table: FaceTable, masks: Mapping[str, Mask], misfits: set[str]
) -> list[LabelledImage]:
    """The images with what is left out and clipped; those with nothing of it are the same objects."""
    gone, clipped = (
        np.any([masks[name] for name, kind in BOX_KINDS.items() if kind.done == done], axis=0)
        for done in ("left out", "clipped")
    )
    there = table.face >= 0
    touched = {int(number) for number in table.image[(gone | clipped) & there]}
    starts = np.cumsum([0, *(len(image.boxes) for image in images)])
    used = []
    for number, image in enumerate(images):
        rows = slice(starts[number], starts[number + 1])
        if image.name not in misfits:
            changed = number in touched
            used.append(_changed(image, gone[rows], clipped[rows], table.sizes[rows]) if changed else image)
    return used


def _changed(image: LabelledImage, gone: Mask, clipped: Mask, sizes: Doubles) -> LabelledImage:
    """An image without some of its boxes, and with others cut at its border. gone, clipped: (F,); sizes: (F, 2)."""
    boxes = image.boxes.copy()
    if clipped.any():
        boxes[clipped] = np.clip(boxes[clipped], 0, np.tile(sizes[clipped], 2)).astype(boxes.dtype)
    kept = ~gone
    return replace(
        image,
        boxes=boxes[kept],
        landmarks=image.landmarks[kept],
        ignore=image.ignore[kept],
        hidden=None if image.hidden is None else image.hidden[kept],
        scores=None if image.scores is None else image.scores[kept],
    )
