"""Label files of WIDER FACE's parts: boxes and the mark `invalid` from its own list, landmarks from where they are.

Landmarks of RetinaFace's `label.txt` go to the boxes of the list that they were given for, corner by corner; a
`labelv2.txt` that was given is taken as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from facetrain.core.errors import DataError
from facetrain.core.faces import LabelledImage
from facetrain.data.formats import labelv2
from facetrain.data.label_file import LabelFile, LabelStatistics
from facetrain.data.landmark_names import FIVE
from facetrain.data.layout import format_module
from facetrain.eval.wider_face.published import Given, Published

Sizes = Mapping[str, tuple[int, int]]  # (width, height) of images by `<event>/<name>`


@dataclass(frozen=True)
class WrittenLabels:
    """What a label file holds.

    source:     what it was made of
    unlabelled: images without labels; absent: labels without an image, left out
    """

    statistics: LabelStatistics
    source: str
    unlabelled: int
    absent: int


def write_labels(
    published: Published, folder: Path, split: str, sizes: Sizes, *, partial: bool
) -> WrittenLabels | None:
    """Write `labelv2.txt` of a part; None where there is nothing to make it of.

    sizes: of the images that are there. Raises DataError for labels that cannot be read or are those of others.
    """
    made_of = [some for some in (published.lists.get(split), published.landmarks.get(split)) if some is not None]
    if not made_of:
        return None
    images = folder / f"WIDER_{split}" / "images"
    given = made_of[-1]
    labels = _read(given, images)
    if len(made_of) == 2 and not _is_labelv2(given):
        labels = with_landmarks(_read(made_of[0], images), labels)
    else:
        made_of = [given]
    source = " and ".join(map(str, made_of))
    absent = [image.name for image in labels.images if image.name not in sizes]
    if len(absent) == len(labels.images) or (absent and not partial):
        raise DataError(
            f"{source}: {len(absent):,} of {len(labels.images):,} images are not below {images}, such as {absent[0]}",
            "are these the labels of this part? `partial` takes the images that are there",
        )
    kept = [_sized(image, sizes[image.name], source) for image in labels.images if image.name in sizes]
    labelv2.write(folder / "labelv2" / split / labelv2.FILE, kept, labels.points)
    counted = LabelStatistics.of(kept, labels.statistics.boxes_without_area)
    return WrittenLabels(counted, source, len(set(sizes) - {image.name for image in kept}), len(absent))


def with_landmarks(listed: LabelFile, marked: LabelFile) -> LabelFile:
    """The images, boxes and marks of one file with the landmarks that another has for equal boxes."""
    known = {image.name: image for image in marked.images}
    images = [_joined(image, known.get(image.name), len(marked.points)) for image in listed.images]
    return replace(listed, images=images, points=marked.points)


def _joined(image: LabelledImage, marked: LabelledImage | None, points: int) -> LabelledImage:
    landmarks = np.tile(np.array([-1, -1, 0], np.float32), (len(image.boxes), points, 1))  # (F, L, 3)
    if marked is not None:
        faces: dict[tuple[float, ...], list[int]] = {}
        for number, box in enumerate(marked.boxes.tolist()):
            faces.setdefault(tuple(box), []).append(number)
        for row, box in enumerate(image.boxes.tolist()):
            same = faces.get(tuple(box))
            if same and not image.ignore[row]:
                landmarks[row] = marked.landmarks[same.pop(0)]
    return replace(image, landmarks=landmarks)


def _sized(image: LabelledImage, size: tuple[int, int], source: str) -> LabelledImage:
    """An image with the size that its file has. Raises DataError where its labels are of another one."""
    if image.size not in (None, size):
        told = "x".join(map(str, image.size or ()))
        raise DataError(
            f"{source}: {image.name}: labels of {told} pixels, the image has {size[0]}x{size[1]}",
            "the boxes belong to another size of this image",
        )
    return replace(image, size=size)


def _is_labelv2(given: Given) -> bool:
    return Path(given.member or given.path).name == labelv2.FILE


def _read(given: Given, images: Path) -> LabelFile:
    """Read a list, a `label.txt` or a `labelv2.txt`, by its name. Messages name the file as it was given."""
    name = Path(given.member or given.path).name
    points: Sequence[str]
    if name == labelv2.FILE:
        kind, points = "labelv2", FIVE
    elif name == "label.txt":
        kind, points = "retinaface", FIVE
    else:
        kind, points = "wider_face", ()
    with TemporaryDirectory() as scratch:
        path = Path(scratch, name)
        path.write_bytes(given.content())
        try:
            labels = format_module(kind).read(path, images, points, ())
            labels.raise_on_problems()
        except DataError as error:
            raise DataError(error.message.replace(str(path), str(given)), error.hint) from error
    return labels
