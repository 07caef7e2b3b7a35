"""An audit from a labelled set and weights to its findings, and corrected labels from its list."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from facetrain.core.errors import DataError
from facetrain.core.faces import Faces, LabelledImage
from facetrain.data.formats import labelv2
from facetrain.data.holds import reduced
from facetrain.data.label_file import LabelStatistics
from facetrain.data.layout import Part, Reading, load_split
from facetrain.eval.labelled import size_check
from facetrain.eval.pipeline import detect_images
from facetrain.label.audit import Doubts, Finding, audit, corrected
from facetrain.label.audit_list import read_list
from facetrain.label.look import Observers
from facetrain.label.make import check_places, place_image

Progress = Callable[[int, int], None]


@dataclass
class Audit:
    """images: those that were looked at, with their labels; failures: what is wrong with the others."""

    images: list[LabelledImage]
    findings: list[Finding]
    failures: list[tuple[str, DataError]]


def run_audit(
    data: Path,
    part: Part,
    observers: Observers,
    doubts: Doubts,
    reading: Reading,
    progress: Progress = lambda done, total: None,
) -> Audit:
    """Look at every image of a part of a set, and hold what is found against its labels."""
    labels = load_split(data, part, None, reading)
    images: list[LabelledImage] = []
    found: list[Faces] = []
    failures = []
    paths = [image.path for image in labels.images]
    with closing(detect_images(observers, paths, check=size_check(labels.images), progress=progress)) as results:
        for image, result in zip(labels.images, results, strict=True):
            if isinstance(result, DataError):
                failures.append((str(image.path), result))
            else:
                images.append(image)
                found.append(result)
    return Audit(images, audit(images, labels.points, found, observers.landmark_names, doubts), failures)


@dataclass(frozen=True)
class Applied:
    """What a list changed. lost: what labelv2 has no room for."""

    labels: Path
    statistics: LabelStatistics
    decisions: int
    lost: dict[str, int]


def apply_list(table: Path, data: Path, part: Part, to: Path, reading: Reading, *, copy: bool = False) -> Applied:
    """Write the set with the decisions of a list into another folder, as labelv2 and with its images."""
    labels = load_split(data, part, None, reading)
    assert labels.place is not None
    check_places(labels.place.images, to)
    decided = read_list(table, labels.images)
    images = [corrected(image, decided.get(number, ())) for number, image in enumerate(labels.images)]
    kept, lost = reduced(images, labelv2.HOLDS)
    _write(to / part, kept, labels.points, copy=copy)
    return Applied(to / part / labelv2.FILE, LabelStatistics.of(kept), sum(map(len, decided.values())), lost)


def _write(place: Path, images: Sequence[LabelledImage], points: Sequence[str], *, copy: bool) -> None:
    for image in images:
        place_image(image.path, place / "images" / image.name, copy=copy)
    labelv2.write(place / labelv2.FILE, images, points)
