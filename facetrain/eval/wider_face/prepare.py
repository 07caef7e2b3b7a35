"""Builds the folder that training and evaluation take from WIDER FACE's published files.

    <to>/WIDER_train/images/<event>/<name>.jpg    12,880
    <to>/WIDER_val/images/<event>/<name>.jpg      3,226
    <to>/labelv2/{train,val}/labelv2.txt
    <to>/labelv2/val/gt/wider_{face,easy,medium,hard}_val.mat

Every file is whole or not there, so what was interrupted goes on: a file with the right size and checksum stays.
"""

import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from facetrain.core.archives import write_whole
from facetrain.core.errors import DataError, InputError, OutputError
from facetrain.core.files import check_folder, write_bytes
from facetrain.core.image_header import read_header
from facetrain.eval.wider_face import published as official
from facetrain.eval.wider_face.ground_truth import has_ground_truth, load_ground_truth
from facetrain.eval.wider_face.labels import Sizes, WrittenLabels, write_labels
from facetrain.eval.wider_face.published import GROUND_TRUTH, SOURCES, Given, Published, find_published

Progress = Callable[[int, int, str], None]  # files that are done, of how many, the last one
_SHOWN = 3
_NEEDED = ("train images", "val images", "train labels", "val labels")


@dataclass
class PreparedSplit:
    """What was made of a part: images and events that are there now, images of these that were not there before."""

    images: int
    events: int
    written: int
    labels: WrittenLabels | None = None


@dataclass
class Prepared:
    """What a folder holds now. missing: by what is not there, where it comes from."""

    folder: Path
    splits: dict[str, PreparedSplit] = field(default_factory=dict)
    ground_truth: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether images and labels of both parts are there."""
        return not set(self.missing) & set(_NEEDED)


def prepare_widerface(
    source: Path, folder: Path, *, partial: bool = False, progress: Progress = lambda done, total, name: None
) -> Prepared:
    """Build `folder` from the published files in `source`; what is there already stays.

    partial: take fewer images than were published

    Raises InputError where nothing is found, DataError for what is damaged or incomplete, OutputError where it cannot
    be written.
    """
    check_folder(folder, "to")
    made = Prepared(folder)
    with ExitStack() as stack:
        published = find_published(source, stack)
        if not partial:
            for split in published.images:
                _check_count(published, split)
        _check_room(published, folder)
        sizes = _bring_images(published, folder, made, progress)
        for split, known in sizes.items():
            made.splits[split].labels = write_labels(published, folder, split, known, partial=partial)
        _bring_ground_truth(published, folder, made, partial=partial)
    _tell_missing(published, made)
    return made


def _check_count(published: Published, split: str) -> None:
    """Raise DataError unless all images of all events are there."""
    images, wanted = published.images[split], official.IMAGES[split]
    events = {name.partition("/")[0] for name in images}
    if len(images) == wanted and len(events) == official.EVENTS:
        return
    place = published.sources[split]
    raise DataError(
        f"{place}: {len(images):,} images of {len(events)} events; WIDER FACE's {split} part has {wanted:,} of "
        f"{official.EVENTS}",
        f"get it again: {SOURCES[f'{split} images']}; `partial` takes the images that are there",
    )


def _check_room(published: Published, folder: Path) -> None:
    """Raise OutputError where the disk has no room for what is to be written."""
    need = 0
    for split, images in published.images.items():
        for name, given in images.items():
            if given.archive is not None and not (folder / f"WIDER_{split}" / "images" / name).exists():
                need += given.archive.members[given.member].file_size
    above = folder
    while not above.exists():
        above = above.parent
    free = shutil.disk_usage(above).free
    if need > free:
        raise OutputError(f"{folder}: {need / 1e9:.1f} GB to write, {free / 1e9:.1f} GB free", "choose another `to`")


def _bring_images(published: Published, folder: Path, made: Prepared, progress: Progress) -> Mapping[str, Sizes]:
    """Put every image in its place. Returns the sizes of all that are there, per split."""
    total = sum(map(len, published.images.values()))
    done = 0
    sizes: dict[str, dict[str, tuple[int, int]]] = {}
    for split in official.IMAGES:
        place = folder / f"WIDER_{split}" / "images"
        known: dict[str, tuple[int, int]] = {}
        written = 0
        for name, given in published.images.get(split, {}).items():
            content, new = _bring(given, place / name)
            known[name] = _size_of(content, place / name)
            written += new
            done += 1
            progress(done, total, name)
        if split not in published.images:  # of an earlier call, whose archive is gone
            known = {
                path.relative_to(place).as_posix(): _size_of(path.read_bytes(), path)
                for path in sorted(place.glob("*/*.jpg"))
            }
        if known:
            events = {name.partition("/")[0] for name in known}
            made.splits[split] = PreparedSplit(len(known), len(events), written)
            sizes[split] = known
    return sizes


def _bring(given: Given, target: Path) -> tuple[bytes, bool]:
    """A file in its place: its content, and whether it was not there before."""
    there = _content(target)
    if given.archive is not None:
        info = given.archive.members[given.member]
        if there is not None and len(there) == info.file_size and zlib.crc32(there) == info.CRC:
            return there, False
    content = given.content()
    if content == there:
        return content, False
    if given.archive is None:
        with suppress(OSError):  # another disk, or one that knows no links
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            os.link(given.path, target)
            return content, True
    write_whole(target, content)
    return content, True


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _size_of(content: bytes, path: Path) -> tuple[int, int]:
    """(width, height) in pixels. Raises DataError for what is no image."""
    header = read_header(content, path.name)
    if header is None:
        raise DataError(f"{path}: not an image", "remove it, and get the archive that it came from again")
    return header.width, header.height


def _bring_ground_truth(published: Published, folder: Path, made: Prepared, *, partial: bool) -> None:
    """Put the official files in their place, and read them once. Raises DataError where they are damaged."""
    place = folder / "labelv2" / "val" / "gt"
    for name in GROUND_TRUTH:
        given = published.ground_truth.get(name)
        if given is not None:
            content = given.content()
            if content != _content(place / name):
                write_bytes(place / name, content)
        if (place / name).is_file():
            made.ground_truth.append(name)
    if has_ground_truth(place):
        images = len(load_ground_truth(place).names)
        if images != official.IMAGES["val"] and not partial:
            raise DataError(
                f"{place}: ground truth of {images:,} images, not {official.IMAGES['val']:,}",
                f"get it again: {SOURCES['ground truth']}; `partial` takes it as it is",
            )


def _tell_missing(published: Published, made: Prepared) -> None:
    """Name what the folder lacks."""
    if not made.splits and not made.ground_truth:
        raise InputError("no images in what was given", "\n".join(SOURCES.values()))
    for split in official.IMAGES:
        there = made.splits.get(split)
        if there is None:
            made.missing[f"{split} images"] = SOURCES[f"{split} images"]
        if (there is None and not (split in published.lists or split in published.landmarks)) or (
            there is not None and there.labels is None
        ):
            made.missing[f"{split} labels"] = SOURCES[f"{split} labels"]
    train = made.splits.get("train")
    if train is not None and train.labels is not None and not train.labels.statistics.with_landmarks:
        made.missing["landmarks"] = SOURCES["landmarks"]
    if len(made.ground_truth) < len(GROUND_TRUTH):
        made.missing["ground truth"] = SOURCES["ground truth"]
