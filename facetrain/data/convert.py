"""A data set in another label format: labels written anew, images linked or copied, whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, cast

from facetrain.core.errors import DataError, InputError, OutputError, UsageError
from facetrain.core.faces import LabelledImage
from facetrain.core.files import check_folder
from facetrain.data.corrections import Corrections, corrected, sized
from facetrain.data.holds import reduced
from facetrain.data.label_file import LabelFile, LabelStatistics
from facetrain.data.landmark_names import FIVE, columns_of, default_names
from facetrain.data.layout import Format, Reading, find_split, format_module, format_names, read_place
from facetrain.data.places import Split

Images = Literal["link", "copy", "none"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Converted:
    """A part of a set that was converted. part: train or val, or "" of a set that is not divided.

    lost:  what the new format has no room for, and how many of each
    notes: what else was left out while reading, and what is not there, a sentence each
    """

    part: str
    source: Split
    target: Split
    counted: LabelStatistics
    lost: dict[str, int]
    notes: tuple[str, ...]


class WritableFormat(Format, Protocol):
    """A format that has `target` and `write` too."""

    def target(self, root: Path, split: str) -> Split:
        """Where labels and images of a part lie below a new folder."""
        ...

    def write(self, labels: Path, images: Sequence[LabelledImage], points: Sequence[str]) -> None:
        """Write the labels. points: the names of the landmarks."""
        ...


def convert(
    source: Path,
    to: Path,
    format_name: str,
    *,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
    images: Images = "link",
    corrections: Corrections = Corrections(),  # noqa: B008 (frozen)
    progress: Progress | None = None,
) -> list[Converted]:
    """Write the labels of a set, both parts of it, in a format into a new folder, and put its images there too.

    images: `link` makes hard links, or symbolic ones across file systems; `none` leaves the images where they are
    corrections: what the labels really are, where they were written in another convention
    Raises UsageError for a folder that is in use or a format that is not written, DataError for labels that are wrong.
    """
    module = writable(format_name)
    corrections.check()
    check_folder(to, "to")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(f"{to}: is there already", "name a new folder, or empty this one")
    places = _parts(source, reading)
    read = {part: corrected(labels, corrections) for part, labels in _read(places, reading).items()}
    total = sum(len(labels.images) for labels in read.values()) if images != "none" else 0
    done = 0

    def one_more() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    found = []
    with _new_folder(to) as scratch:
        for part, labels in read.items():
            target = module.target(scratch, part)
            kept, points, lost = held_by(module, labels.images, labels.points)
            module.write(target.labels, kept, points)
            if images != "none":
                for image in kept:
                    put_image(image.path, target.images / image.name, images)
                    one_more()
            place = module.target(to, part)
            moved = replace(place, format=format_name, whole=not part)
            notes = (*_notes(labels), *_absent(read, module))
            found.append(Converted(part, places[part], moved, LabelStatistics.of(kept), lost, notes))
    return found


def writable(name: str) -> WritableFormat:
    """A format that is written. Raises InputError for one that is not there, UsageError for one that is only read."""
    module = format_module(name, "target")
    if not hasattr(module, "write"):
        others = [other for other in format_names() if hasattr(format_module(other), "write")]
        raise UsageError(f"`target` {name}: is read and not written", f"written are: {', '.join(others)}")
    return cast("WritableFormat", module)


def _parts(source: Path, reading: Reading) -> dict[str, Split]:
    """The places of both parts, or of the whole where the set is not divided. Raises InputError where there is none."""
    places: dict[str, Split] = {}
    first: InputError | None = None
    for part in ("train", "val"):
        try:
            place = find_split(source, part, reading)
        except InputError as error:
            first = first or error
            continue
        if place.whole:
            return places or {"": place}
        places[part] = place
    if not places:
        assert first is not None
        raise first
    return places


def _read(places: dict[str, Split], reading: Reading) -> dict[str, LabelFile]:
    """The labels of all parts. One without landmarks gets the columns of the others: a set has one shape of faces.

    Raises DataError where parts without names of landmarks have another number of them.
    """
    read = {part: read_place(place, None, reading.classes) for part, place in places.items()}
    points = max((labels.points for labels in read.values()), key=len)
    for part, labels in read.items():
        if labels.points != points and not (labels.points and labels.named):
            read[part] = read_place(places[part], points, reading.classes)
        labels.raise_on_problems()
    return read


def held_by(
    module: WritableFormat, images: Sequence[LabelledImage], points: tuple[str, ...]
) -> tuple[list[LabelledImage], tuple[str, ...], dict[str, int]]:
    """Images as the format can hold them, the names of their landmarks, and what is lost. points: their names now."""
    images, lost = reduced(images, module.HOLDS)
    points = points if module.HOLDS.landmarks else ()
    if points and not module.HOLDS.names:
        images, points = _in_usual_order(images, points)
        if points != default_names(len(points)):
            lost["names of landmarks"] = len(points)
    if module.HOLDS.needs_size:
        images = [sized(image) for image in images]
    return images, points, lost


def _in_usual_order(
    images: list[LabelledImage], points: tuple[str, ...]
) -> tuple[list[LabelledImage], tuple[str, ...]]:
    """The five of a face first and in their order, if they are there: without names the order tells them apart."""
    columns = columns_of(FIVE, points)
    if columns is None or min(columns) < 0 or columns == list(range(len(FIVE))):
        return images, points
    order = [*columns, *(column for column in range(len(points)) if column not in columns)]
    turned = [
        replace(
            image,
            landmarks=image.landmarks[:, order],
            hidden=None if image.hidden is None else image.hidden[:, order],
        )
        for image in images
    ]
    return turned, tuple(points[column] for column in order)


def _notes(labels: LabelFile) -> tuple[str, ...]:
    counted = labels.statistics
    counts = {
        "boxes without area, left out": counted.boxes_without_area,
        "boxes of other classes, left out": counted.other_classes,
        "images that came again, the last of each counts": counted.repeated_headers,
    }
    return (*labels.notes, *(f"{number:,} {what}" for what, number in counts.items() if number))


def _absent(read: Collection[str], module: WritableFormat) -> list[str]:
    """Parts that are not there, of a format whose readers ask for them; a set that is not divided is one for train."""
    program = module.HOLDS.asks_for_parts
    absent = [part for part in ("train", "val") if part not in read and not (part == "train" and "" in read)]
    return [f"there is no {part} part, which {program} asks for" for part in absent] if program else []


@contextmanager
def _new_folder(to: Path) -> Iterator[Path]:
    """A scratch folder that becomes `to` once all is in it, and is removed if anything fails."""
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=to.parent, prefix=".part-"))
    except OSError as error:
        raise OutputError(f"{to}: cannot write here: {error.strerror}", "choose another folder") from error
    try:
        yield scratch
        umask = os.umask(0)
        os.umask(umask)
        scratch.chmod(0o777 & ~umask)
        if to.exists():
            to.rmdir()
        scratch.replace(to)
    except OSError as error:
        raise OutputError(f"{to}: cannot be written: {error.strerror or error}", "is the disk full?") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def put_image(source: Path, target: Path, images: Images) -> None:
    """Link or copy an image. Raises DataError where it is not there."""
    if not source.is_file():
        raise DataError(f"{source}: no such image", "`images` none converts the labels alone")
    target.parent.mkdir(parents=True, exist_ok=True)
    if images == "copy":
        shutil.copyfile(source, target)
        return
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one that knows no links
        target.symlink_to(source.resolve())
