"""A label file judged with its images at hand: the one way by which train, validation, eval and check take labels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from facetrain.core.errors import DataError
from facetrain.core.faces import LabelledImage
from facetrain.core.image_header import Header
from facetrain.data.label_file import LabelFile, LabelStatistics
from facetrain.data.plausibility.facts import Fact, image_facts
from facetrain.data.plausibility.judge import judge
from facetrain.data.plausibility.points import points_of
from facetrain.data.plausibility.refuse import refusals, refused


def judged(labels: LabelFile, root: Path, part: str, *, trust: bool = False) -> LabelFile:
    """The labels without what cannot be right, see `judge`. Images without a size get that of their file.

    root:  the set's folder; part: train or val, under which sizes of images are kept
    trust: nothing is left out, clipped or refused
    Raises DataError where more than a tenth is of one kind.
    """
    found, errors = look_over(labels, root, part, trust=trust)
    if errors and not trust:
        error = errors[0]
        more = "" if len(errors) == 1 else f"\n`facetrain data check` tells of {len(errors) - 1} more"
        place = root if labels.place is None else labels.place.labels
        raise DataError(f"{place}: {error.message}", f"{error.hint}{more}")
    return found


def look_over(labels: LabelFile, root: Path, part: str, *, trust: bool = False) -> tuple[LabelFile, list[DataError]]:
    """The labels as `judged` has them, and why they would be refused."""
    facts = image_facts(root, part, (image.path for image in labels.images))
    headers = {image.name: header for image in labels.images if (header := _header(facts, image)) is not None}
    sized = _sized(labels.images, headers)
    points = points_of(labels.points)
    judgement = judge(sized, points, headers, labels.flat, act=not trust)
    judgement = refused(judgement, points, labels.convention, root)
    errors = refusals(judgement, points, labels.convention, root)
    read = labels.statistics
    left_out = (read.boxes_without_area, read.repeated_headers, read.blank_lines, read.other_classes)
    statistics = LabelStatistics.of(judgement.images, *left_out)
    return replace(labels, images=judgement.images, statistics=statistics, judgement=judgement), errors


def _header(facts: Mapping[Path, Fact], image: LabelledImage) -> Header | None:
    fact = facts.get(image.path)
    return None if fact is None else fact.header


def _sized(images: Sequence[LabelledImage], headers: Mapping[str, Header]) -> list[LabelledImage]:
    return [
        replace(image, size=headers[image.name].upright) if image.size is None and image.name in headers else image
        for image in images
    ]
