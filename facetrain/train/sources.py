"""The images that a run trains on, of all its sources, and what it says of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from facetrain.config.schema import Config, SourceConfig
from facetrain.core.errors import DataError, InputError
from facetrain.core.faces import LabelledImage
from facetrain.data.held_out import check_undivided, divided, has_a_part
from facetrain.data.layout import digest, find_images, load_split
from facetrain.data.mixture import indices_of, samples
from facetrain.data.plausibility.in_several import find_in_several, in_several_words
from facetrain.data.sources import reading_of_source, sources_of
from facetrain.data.visible import visible_only
from facetrain.eval.wider_face.ground_truth import has_ground_truth
from facetrain.train.events import Events


@dataclass(frozen=True)
class TrainingData:
    """What the sources hold.

    images:   of all of them, in their order
    labels:   the first label file that is read; None where a teacher alone teaches
    first:    that of the first source, None where its labels are not read
    data:     what tells this data from other: a SHA-256 of labels, and of names of images without any
    held_out: labelled images kept for validation; None where `data.val` does not ask for them
    """

    images: list[LabelledImage]
    labels: Path | None
    first: Path | None
    data: str
    held_out: list[LabelledImage] | None = None


def training_data(roots: Sequence[Path], config: Config, events: Events) -> TrainingData:
    """The images of the sources at these places; no labels are read where they do not count.

    Raises InputError or DataError for labels that are not there or cannot be read, and where `data.val` cannot be done.
    """
    sources = sources_of(config.data)
    parts = []
    for number, (root, source) in enumerate(zip(roots, sources, strict=True)):
        part = _read(root, source, config, events)
        parts.append(
            replace(part, images=[replace(image, source=number) for image in part.images] if number else part.images)
        )
    if config.data.val is not None:
        parts[0] = _divided(roots[0], parts[0], config, events)
    images = [image for part in parts for image in part.images]
    labels = next((part.labels for part in parts if part.labels is not None), None)
    data = parts[0].data
    if len(parts) > 1:
        data = hashlib.sha256("\n".join(part.data for part in parts).encode()).hexdigest()
        for line in in_several_words(find_in_several(images), [str(root) for root in roots]):
            events.note(f"warning: {line}")
    return TrainingData(images, labels, parts[0].labels, data, parts[0].held_out)


def _read(root: Path, source: SourceConfig, config: Config, events: Events) -> TrainingData:
    """One source, without the number by which its images are known."""
    points = config.model.landmarks.names
    if config.train.label_weight == 0 or source.label_weight == 0:
        images = find_images(root, points)
        place = f" in {root}" if config.data.roots else ""
        events.note(f"training data: {len(images):,} images{place}, no labels: the teacher alone teaches")
        return TrainingData(images, None, None, _names_digest(images))
    try:
        labels = load_split(root, "train", points, reading_of_source(source, config.data))
    except InputError as error:
        if config.train.teacher is not None:
            alone = "label_weight: 0 in its entry of data.roots" if config.data.roots else "`train.label_weight=0`"
            error.hint = f"{error.hint}\nwithout labels, by the teacher alone: {alone}"
        raise
    events.note(f"training data: {labels.said()}")
    for line in labels.remarks():
        events.note(f"training labels: {line}")
    assert labels.place is not None
    images = labels.images if config.data.hidden_landmarks else visible_only(labels.images)
    return TrainingData(images, labels.place.labels, labels.place.labels, digest(labels))


def _divided(root: Path, part: TrainingData, config: Config, events: Events) -> TrainingData:
    """A source of which `data.val` is kept for validation. Raises InputError where it has a validation part."""
    assert config.data.val is not None
    if has_ground_truth(root):
        raise has_a_part(root, config.data.val, "WIDER FACE's official ground truth")
    check_undivided(root, part.labels, reading_of_source(sources_of(config.data)[0], config.data), config.data.val)
    parts = divided(
        root,
        part.images,
        config.data.val,
        lambda done, total: events.work("looking for images that are alike", done, total),
    )
    events.note(parts.said(root, config.data.val))
    names = hashlib.sha256(f"{part.data} {_names_digest(parts.train)}".encode()).hexdigest()
    return replace(part, images=parts.train, data=names, held_out=parts.held)


def _names_digest(images: Sequence[LabelledImage]) -> str:
    names = "".join(f"{image.name}\n" for image in images)
    return hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()


def check_sources(images: Sequence[LabelledImage], config: Config) -> None:
    """Raise DataError for a source of which no image can be used."""
    for source, own in zip(config.data.roots, indices_of(images, len(config.data.roots)), strict=True):
        if not len(own):
            raise DataError(f"{source.root}: no image of this set can be used", "mend it, or leave the set out")


def unlabelled_of(images: Sequence[LabelledImage], config: Config) -> list[int]:
    """The indices of the images whose labels are not read."""
    if config.train.label_weight == 0:
        return list(range(len(images)))
    weights = [source.label_weight for source in sources_of(config.data)]
    return [index for index, image in enumerate(images) if weights[image.source] == 0]


def source_lines(images: Sequence[LabelledImage], config: Config) -> list[str]:
    """For the plan: of several sources what each gives to an epoch; nothing of a single one."""
    roots = config.data.roots
    if not roots:
        return []
    counts = [len(own) for own in indices_of(images, len(roots))]
    mixed = any(source.share is not None for source in roots)
    taken = samples(counts, [source.share for source in roots]) if mixed else counts
    lines = []
    for source, count, some in zip(roots, counts, taken, strict=True):
        often = "each once" if some == count else f"each {some / count:.2g} times on average"
        weight = "" if source.label_weight == 1 else f", labels count {source.label_weight:g}"
        if source.label_weight == 0 or config.train.label_weight == 0:
            weight = ", no labels"
        lines.append(
            f"source: {source.root}: {count:,} images, {some:,} samples an epoch "
            f"({some / sum(taken):.1%} of them, {often}){weight}"
        )
    return lines
