"""Labels that were written in another convention than they were read in, read anew in the right one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facetrain.core.errors import DataError, UsageError
from facetrain.core.faces import LabelledImage
from facetrain.core.image_header import file_header
from facetrain.core.suggest import choices_hint
from facetrain.data.holds import of_faces
from facetrain.data.label_file import LabelFile, LabelStatistics
from facetrain.data.plausibility.conventions import CONVENTIONS, numbers_of, read_as
from facetrain.data.plausibility.points import POINT_CONVENTIONS, points_as
from facetrain.data.plausibility.table import face_table


@dataclass(frozen=True)
class Corrections:
    """What the labels really are; a check of the labels names these.

    boxes:     the convention of their four numbers, see plausibility/conventions
    landmarks: that of the points, see plausibility/points
    order:     the names of the points in the order in which they stand
    rescale:   boxes belong to images of the size that the labels tell, not of the files'
    """

    boxes: str | None = None
    landmarks: str | None = None
    order: tuple[str, ...] = ()
    rescale: bool = False

    def check(self) -> None:
        """Raise UsageError for a convention that is not there."""
        for field, value, choices in (
            ("boxes", self.boxes, CONVENTIONS),
            ("landmarks", self.landmarks, tuple(POINT_CONVENTIONS)),
        ):
            if value is not None and value not in choices:
                raise UsageError(f"`{field}` {value}: no such convention", choices_hint(value, choices))


def corrected(labels: LabelFile, corrections: Corrections) -> LabelFile:
    """The labels with boxes and landmarks in pixels, of images of their files' sizes. Raises DataError, UsageError."""
    if corrections == Corrections():
        return labels
    images = _with_flat(labels) if corrections.boxes else list(labels.images)
    if corrections.boxes or corrections.landmarks:
        images = _reread([sized(image) for image in images], labels.convention, corrections)
    if corrections.order:
        images = _reordered(images, labels.points, corrections.order)
    if corrections.rescale:
        images = [_rescaled(image) for image in images]
    kept = [_with_area(image) for image in images]
    lost = sum(len(image.boxes) for image in images) - sum(len(image.boxes) for image in kept)
    lost += 0 if corrections.boxes else labels.statistics.boxes_without_area
    counted = replace(
        LabelStatistics.of(kept, lost),
        repeated_headers=labels.statistics.repeated_headers,
        other_classes=labels.statistics.other_classes,
    )
    return replace(labels, images=kept, statistics=counted)


def sized(image: LabelledImage) -> LabelledImage:
    """The image with the size of its file where the labels do not tell one. Raises DataError."""
    return image if image.size is not None else replace(image, size=_file_size(image))


def _file_size(image: LabelledImage) -> tuple[int, int]:
    try:
        header = file_header(image.path)
    except OSError as error:
        hint = "the size of this image is needed, so that it must be there"
        raise DataError(f"{image.path}: cannot be read: {error.strerror}", hint) from error
    if header is None:
        raise DataError(f"{image.path}: not an image, or a damaged one", "its size is needed")
    return header.upright


def _with_flat(labels: LabelFile) -> list[LabelledImage]:
    """The images with the boxes that had no area as they were read, behind the others."""
    flat = {image.name: image for image in labels.flat}
    return [_joined(image, flat[image.name]) if image.name in flat else image for image in labels.images]


def _joined(one: LabelledImage, other: LabelledImage) -> LabelledImage:
    points = None if one.hidden is None else np.zeros(other.landmarks.shape[:2], bool)
    return replace(
        one,
        boxes=np.concatenate([one.boxes, other.boxes]),
        landmarks=np.concatenate([one.landmarks, other.landmarks]),
        ignore=np.concatenate([one.ignore, other.ignore]),
        hidden=None if one.hidden is None or points is None else np.concatenate([one.hidden, points]),
        scores=None,
    )


def _reread(images: Sequence[LabelledImage], given: str, corrections: Corrections) -> list[LabelledImage]:
    """The images with their numbers taken for what they are."""
    table = face_table(images, {})
    if corrections.boxes:
        boxes = read_as(numbers_of(table.boxes, table.sizes, given), table.sizes, corrections.boxes)
        table = replace(table, boxes=boxes)
    points = points_as(table, corrections.landmarks) if corrections.landmarks else table.landmarks
    found, first = [], 0
    for image in images:
        faces = slice(first, first + len(image.boxes))
        first = faces.stop
        landmarks = image.landmarks.copy()
        there = landmarks[..., 2] > 0
        landmarks[there, :2] = points[faces][there]
        found.append(replace(image, boxes=table.boxes[faces].astype(np.float32), landmarks=landmarks))
    return found


def _reordered(images: Sequence[LabelledImage], points: Sequence[str], order: Sequence[str]) -> list[LabelledImage]:
    """The images with the points in the order of their names; order: the names as the points really stand."""
    if sorted(order) != sorted(points):
        there = ", ".join(points) or "none"
        raise UsageError(f"`order` {','.join(order)}: not the landmarks of these labels", f"they are: {there}")
    columns = [list(order).index(name) for name in points]
    return [
        replace(
            image,
            landmarks=image.landmarks[:, columns],
            hidden=None if image.hidden is None else image.hidden[:, columns],
        )
        for image in images
    ]


def _rescaled(image: LabelledImage) -> LabelledImage:
    size = _file_size(image)
    if image.size is None or image.size == size:
        return replace(image, size=size)
    factor = np.array(size, np.float64) / image.size
    landmarks = image.landmarks.copy()
    landmarks[..., :2] = np.where(landmarks[..., 2:] > 0, landmarks[..., :2] * factor, landmarks[..., :2])
    boxes = (image.boxes * np.tile(factor, 2)).astype(np.float32)
    return replace(image, size=size, boxes=boxes, landmarks=landmarks)


def _with_area(image: LabelledImage) -> LabelledImage:
    kept: NDArray[np.bool_] = (image.boxes[:, 2] > image.boxes[:, 0]) & (image.boxes[:, 3] > image.boxes[:, 1])
    return image if kept.all() else of_faces(image, kept)
