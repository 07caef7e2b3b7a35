"""Both parts of a set looked over at once: everything that train and eval would find, and what they would not say."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from facetrain.config.schema import Config
from facetrain.core.errors import DataError, FacetrainError, InputError
from facetrain.core.images import SUFFIXES
from facetrain.data.check.survey import Survey, survey
from facetrain.data.label_file import LabelFile
from facetrain.data.landmark_names import columns_of, other_number
from facetrain.data.layout import Part, Reading, find_split, read_place, undivided
from facetrain.data.places import Split
from facetrain.data.plausibility.copies import same_images
from facetrain.data.plausibility.facts import image_facts
from facetrain.data.plausibility.in_both import Pair, find_in_both, in_both_words
from facetrain.data.plausibility.judge import LIMIT
from facetrain.data.plausibility.labels import look_over

Progress = Callable[[int, int], None]
PARTS: tuple[Part, ...] = ("train", "val")


@dataclass(frozen=True)
class CheckedPart:
    """A part of a set as it was found.

    labels:     with what cannot be right left out, and its judgement
    read:       as the labels have it
    twice:      pairs of images of this part that look the same
    unlabelled: images of the folder that no label names
    errors:     what keeps it from being used
    """

    labels: LabelFile
    read: LabelFile
    survey: Survey
    twice: list[tuple[str, str]]
    unlabelled: int
    errors: list[FacetrainError]


@dataclass(frozen=True)
class Checked:
    """A set as it was found.

    absent:  by part, why it is not there
    in_both: validation images that are training images too
    errors:  of all parts, and of the whole
    """

    root: Path
    parts: dict[Part, CheckedPart]
    absent: dict[Part, str]
    in_both: list[Pair] = field(default_factory=list)
    errors: list[FacetrainError] = field(default_factory=list)


def check_set(
    root: Path,
    config: Config,
    reading: Reading,
    *,
    chosen: bool = False,
    progress: Progress | None = None,
) -> Checked:
    """Look over what is at `root`. Only images are decoded whose looks are not kept from an earlier time.

    config: what it is to train; chosen: whether it is that for sure, so that what it cannot train on is an error
    Raises InputError where neither part is there, DataError where labels cannot be read at all.
    """
    parts: dict[Part, CheckedPart] = {}
    absent: dict[Part, str] = {}
    reasons: list[InputError] = []
    for part in PARTS:
        try:
            place = find_split(root, part, reading)
        except InputError as error:
            absent[part] = error.message.removeprefix(f"{root}: ")
            reasons.append(error)
            continue
        if place.whole and parts:
            absent[part] = undivided(root, reading)
            continue
        parts[part] = _check_part(root, part, place, config, reading, chosen=chosen, progress=progress)
    if not parts:
        raise reasons[0]
    both: list[Pair] = []
    errors = [error for part in parts.values() for error in part.errors]
    if len(parts) == len(PARTS):
        train, val = ([image.path for image in parts[part].read.images] for part in PARTS)
        both = find_in_both(root, train, val)
        if len(both) > LIMIT * len(val):
            errors.append(DataError(f"{root}: {in_both_words(both, len(val))}", "take them out of one of the two"))
    return Checked(root, parts, absent, both, errors)


def _check_part(
    root: Path,
    part: Part,
    place: Split,
    config: Config,
    reading: Reading,
    *,
    chosen: bool,
    progress: Progress | None,
) -> CheckedPart:
    read = read_place(place, None, reading.classes)
    errors: list[FacetrainError] = []
    try:
        read.raise_on_problems()
    except DataError as error:
        errors.append(error)
    learnt = config.model.landmarks.names
    by_order = learnt and read.points and not read.named
    if by_order and columns_of(learnt, read.points, named=False) is None:
        other = other_number(str(place.labels), len(read.points), len(learnt))
        if chosen:
            errors.append(other)
        else:
            read = replace(read, notes=(*read.notes, f"{other.message}: {other.hint}"))
    paths = [image.path for image in read.images]
    facts = image_facts(root, part, paths, looks=True, progress=progress)
    labels, refused = look_over(read, root, part, trust=reading.trust)
    if not reading.trust:
        errors += [DataError(f"{place.labels}: {error.message}", error.hint) for error in refused]
    missing = [image.name for image in read.images if image.path not in facts]
    if missing:
        what = f"{len(missing):,} of {len(paths):,} labelled images are not there, such as {missing[0]}"
        errors.append(InputError(f"{place.images}: {what}", "copy them there, or take them out of the labels"))
    for path, fact in facts.items():
        if fact.problem:
            errors.append(DataError(f"{path}: {fact.problem}", "copy it again, or take it out of the labels"))
    names = {image.path: image.name for image in read.images}
    there = [path for path in names if path in facts]
    pairs = same_images([facts[path].look or b"" for path in there])
    twice = [(names[there[one]], names[there[other]]) for one, other in pairs]
    counted = survey(labels.images, labels.points, config.data)
    unlabelled = 0 if place.among else _unlabelled(place.images, set(paths))  # others than these are nobody's
    return CheckedPart(labels, read, counted, twice, unlabelled, errors)


def _unlabelled(folder: Path, labelled: set[Path]) -> int:
    """How many images below a folder no label names."""
    count = 0
    for above, _, files in os.walk(folder):
        count += sum(Path(above, name) not in labelled for name in files if name.lower().endswith(SUFFIXES))
    return count
