"""Labels a folder of images: every image looked at once, then labels and images as a set to train on.

<to>/train/images/…           links to the images, or copies
<to>/train/labelv2.txt        the labels
<to>/train/detections.jsonl   what was found, with scores (label/journal)
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from facetrain.core.errors import DataError, InputError, OutputError, UsageError, about
from facetrain.core.faces import Image, LabelledImage
from facetrain.core.files import check_folder, sha256
from facetrain.core.images import read_image
from facetrain.core.memory import no_memory_error
from facetrain.core.ordered import ordered
from facetrain.core.suggest import path_hint
from facetrain.data.formats import labelv2
from facetrain.data.holds import reduced
from facetrain.data.label_file import LabelStatistics
from facetrain.label.journal import Journal, Looked
from facetrain.label.labels import Thresholds, labels_of
from facetrain.label.look import Observers
from facetrain.media.find import Places, find_sources
from facetrain.media.frame import Failure

JOURNAL = "detections.jsonl"
Progress = Callable[[int, int, str], None]  # images that are done, of how many, the last one


@dataclass
class Labelled:
    """A folder of labels that was made.

    looked:   images that this call looked at; the others were known from an earlier one
    failures: what could not be read
    skipped:  images of formats that are not read
    lost:     what the label format has no room for, counted
    """

    labels: Path
    journal: Path
    statistics: LabelStatistics
    looked: int
    failures: list[Failure] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)


def check_places(images: Path, to: Path) -> None:
    """Raise UsageError where labels would come to lie among the images, or nothing can be written."""
    if not images.is_dir():
        reason = "not a folder" if images.exists() else "no such folder"
        raise InputError(f"{images}: {reason}", path_hint(images, "name one of images"))
    source, target = images.resolve(), to.resolve()
    if target.is_relative_to(source) or source.is_relative_to(target):
        raise UsageError(f"{to}: lies within {images}, or holds it", "choose a folder elsewhere for `to`")
    check_folder(to, "to")


def label_images(
    images: Path,
    to: Path,
    observers: Observers,
    thresholds: Thresholds,
    *,
    copy: bool = False,
    progress: Progress = lambda done, total, name: None,
) -> Labelled:
    """Label all images of a folder; what an earlier call has looked at is not looked at again.

    copy: copy the images in place of linking to them
    Raises UsageError for places that will not do, or a folder of other detectors; InputError or DataError where there
    are no images.
    """
    check_places(images, to)
    found = find_sources([str(images)], Places([to]), stills=True)
    if not found.sources:
        raise found.failures[0].error if found.failures else DataError(f"{images}: no images")
    place = to / "train"
    target = place / labelv2.FILE
    journal = Journal(place / JOURNAL, observers.fingerprint(), len(observers.landmark_names))
    if target.exists() and sha256(target) not in journal.written:
        raise UsageError(
            f"{target}: was changed, or made by other means, and would be replaced",
            "move it away, or choose another `to`",
        )
    paths = [source.path for source in found.sources if source.path is not None]
    names = {path.relative_to(images).as_posix(): path for path in paths}
    made = Labelled(target, journal.path, LabelStatistics.of([]), 0, list(found.failures), found.skipped)
    _look(names, journal, observers, made, progress)
    labelled = [
        labels_of(place / "images" / name, name, (seen.width, seen.height), seen.faces, thresholds)
        for name in sorted(names)
        if (seen := journal.looked.get(name)) is not None
    ]
    kept, made.lost = reduced(labelled, labelv2.HOLDS)
    made.lost.pop("scores", None)  # the journal has them
    for image in kept:
        place_image(names[image.name], image.path, copy=copy)
    _write(target, kept, observers.landmark_names, journal)
    made.statistics = LabelStatistics.of(kept)
    return made


def _look(names: dict[str, Path], journal: Journal, observers: Observers, made: Labelled, progress: Progress) -> None:
    """Look at every image that the journal does not know, or knows as another file."""
    waiting = [name for name in sorted(names) if not _is_known(journal, name, names[name])]
    done = len(names) - len(waiting)
    progress(done, len(names), "")
    for name, image in zip(waiting, _images([names[name] for name in waiting]), strict=True):
        path = names[name]
        try:
            if isinstance(image, DataError):
                raise image
            with no_memory_error(str(path)):
                [faces] = observers.detect_batch([image])
        except DataError as error:
            made.failures.append(Failure(str(path), about(path, error)))
        else:
            journal.add(Looked(name, path.stat().st_size, image.shape[1], image.shape[0], faces))
            made.looked += 1
        done += 1
        progress(done, len(names), name)


def _is_known(journal: Journal, name: str, path: Path) -> bool:
    looked = journal.looked.get(name)
    return looked is not None and looked.bytes == path.stat().st_size


def _images(paths: list[Path]) -> Iterator[Image | DataError]:
    """Decoded images, the next one read while the one before is looked at."""

    def read(path: Path) -> Image | DataError:
        try:
            with no_memory_error(str(path)):
                return read_image(path)
        except DataError as error:
            return error

    with closing(ordered(read, paths, 1)) as images:
        yield from images


def place_image(source: Path, target: Path, *, copy: bool) -> None:
    """Put an image among the labels' images: a link to it, or a copy where that is asked for or links are not known."""
    if target.exists() and (target.samefile(source) or target.stat().st_size == source.stat().st_size):
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if not copy:
            try:
                target.symlink_to(source.resolve())
                return
            except OSError:
                pass  # a file system without links
        shutil.copyfile(source, target)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror}", "is the disk full?") from error


def _write(target: Path, images: list[LabelledImage], points: tuple[str, ...], journal: Journal) -> None:
    """Write the labels; the journal knows them before they stand in their place, so that they are never foreign."""
    scratch = target.with_name(f".part-{target.name}")
    labelv2.write(scratch, images, points)
    journal.add_labels(sha256(scratch))
    scratch.replace(target)
