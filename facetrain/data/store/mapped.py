"""Decoded images in one file that any number of runs map into their memory: decoded once, held once.

The file lies in the cache folder, named by the set's own place and names. Behind the pixels stands a JSON list that
says of every image where its pixels are, their SHA-256, and the size and time of the file they were decoded from.
Whatever of that does not agree any more is a reason to make the file anew. It is made by one process while the others
wait, and is there whole or not at all.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from facetrain.core.errors import OutputError
from facetrain.core.faces import Image, LabelledImage
from facetrain.core.files import replacing
from facetrain.core.machine import available_cores

_MAGIC = b"facetrain pixels 1\n"
_HEADER = 32  # magic, then where the JSON list begins, behind all pixels
_KEPT_FREE = 0.02  # share of the disk that is left free …
_MOST_KEPT_FREE = 1e9  # … but no more bytes than these: a large disk that is nearly full has room for a small set


@dataclass(frozen=True)
class _Entry:
    """One image: where its pixels begin, its size, their digest; `reason` where it cannot be decoded."""

    name: str
    source: tuple[int, int]  # bytes and time of the file it was decoded from
    start: int = 0
    size: tuple[int, int] = (0, 0)
    digest: str = ""
    reason: str = ""


def mapped_images(
    images: Sequence[LabelledImage],
    cache: Path,
    decoded: Iterator[tuple[LabelledImage, Image | str]],
    unlabelled: bool,
    tell: Callable[[str], None],
) -> Iterator[tuple[LabelledImage, Image | str]]:
    """Every image with its pixels in a mapped file, or with the reason why it cannot be used.

    cache:   the folder for the file
    decoded: the same images decoded, taken only where the file has to be made
    unlabelled: no label says an image's size
    tell:    receives what a person should know: that the file is made, of which size, and why
    Raises OutputError where the disk has no room for it or the folder cannot be written.
    """
    path = cache / f"pixels-{_key(images)}.bin"
    entries = _read(path, images)
    if isinstance(entries, str):
        with _making(path, tell):
            entries = _read(path, images)  # another process may have made it meanwhile
            if isinstance(entries, str):
                if entries:
                    tell(f"{path} is made anew: {entries}")
                _make(path, images, decoded, tell)
                entries = _read(path, images)
    if isinstance(entries, str):
        raise OutputError(f"{path}: {entries or 'it has gone'}", "choose another data.store, such as ram")
    pixels = np.memmap(path, np.uint8, "r")
    for image, entry in zip(images, entries, strict=True):
        yield _mapped(image, entry, pixels, unlabelled)


def _mapped(labelled: LabelledImage, entry: _Entry, pixels: Any, unlabelled: bool) -> tuple[LabelledImage, Image | str]:
    if entry.reason:
        return labelled, entry.reason
    width, height = entry.size
    image = np.asarray(pixels[entry.start : entry.start + 3 * width * height]).reshape(height, width, 3)
    # pixels of another size than the label says are never written: they stand as a reason
    return (replace(labelled, size=entry.size) if unlabelled else labelled), image


def _key(images: Sequence[LabelledImage]) -> str:
    """A name for a set of images: by where they lie and what labels say of their size, not by what is in them."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(os.fsencode(image.path.absolute()) + f"\0{image.size}\0".encode())
    return digest.hexdigest()[:20]


def _read(path: Path, images: Sequence[LabelledImage]) -> list[_Entry] | str:
    """The entries of a file that is whole and of these very images; else why not, '' where there is none."""
    if not path.is_file():
        return ""
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return "it is not a file of pixels, or of another version"
            end = int.from_bytes(file.read(_HEADER - len(_MAGIC)), "little")
            length = os.fstat(file.fileno()).st_size
            if not _HEADER <= end < length:
                return "it is damaged"
            file.seek(end)
            listed = json.loads(file.read())
        entries = [_entry(**item) for item in listed]
    except (OSError, ValueError, KeyError, TypeError):
        return "it is damaged"
    names = [image.name for image in images]
    if [entry.name for entry in entries] != names:
        return "it is of other images"
    for image, entry in zip(images, entries, strict=True):
        if entry.source != _source(image.path):
            return f"{image.name} has changed"
    whole = all(e.start >= _HEADER and e.start + 3 * e.size[0] * e.size[1] <= end for e in entries if not e.reason)
    return entries if whole and _undamaged(path, entries) else "it is damaged"


def _entry(name: str, source: tuple[int, int], start: int, size: tuple[int, int], digest: str, reason: str) -> _Entry:
    """An entry as JSON gives it back. Raises TypeError or ValueError where it is not one."""
    (length, time), (width, height) = source, size
    return _Entry(name, (int(length), int(time)), int(start), (int(width), int(height)), digest, reason)


def _undamaged(path: Path, entries: Sequence[_Entry]) -> bool:
    """Whether all pixels have their digest. That reads the file once, which the run would do anyway."""
    pixels = np.memmap(path, np.uint8, "r")

    def agrees(entry: _Entry) -> bool:
        if entry.reason:
            return True
        return _digest(pixels[entry.start : entry.start + 3 * entry.size[0] * entry.size[1]]) == entry.digest

    with ThreadPoolExecutor(available_cores()) as pool:
        return all(pool.map(agrees, entries))


def _digest(pixels: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def _source(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


@contextmanager
def _making(path: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """One process makes the file, others wait for it. Not done on Windows, which has no flock: there both make it."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("w")
    except OSError as error:
        raise OutputError(
            f"{path}: cannot write here: {error.strerror}", "FACETRAIN_CACHE chooses another cache folder"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            tell(f"{path}: another process is making it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(
    path: Path,
    images: Sequence[LabelledImage],
    decoded: Iterable[tuple[LabelledImage, Image | str]],
    tell: Callable[[str], None],
) -> None:
    """Write the file. Sizes are only known as the images come, so room on the disk is looked at all the time."""
    known = sum(3 * labelled.size[0] * labelled.size[1] for labelled in images if labelled.size is not None)
    _check_room(path, known)
    with replacing(path) as scratch, scratch.open("wb") as file:
        file.write(_MAGIC + bytes(_HEADER - len(_MAGIC)))
        entries, end = [], _HEADER
        for original, (labelled, image) in zip(images, decoded, strict=True):
            entry = {"name": original.name, "source": _source(original.path), "start": 0, "size": (0, 0)}
            if isinstance(image, str):
                entries.append(entry | {"digest": "", "reason": image})
                continue
            if len(entries) % 64 == 0:
                _check_room(path, max(0, known - end))
            file.write(image.data)
            assert labelled.size is not None
            entries.append(entry | {"start": end, "size": labelled.size, "digest": _digest(image), "reason": ""})
            end += image.nbytes
        file.write(json.dumps(entries).encode())
        file.seek(len(_MAGIC))
        file.write(end.to_bytes(_HEADER - len(_MAGIC), "little"))
    tell(f"{path}: {len(images):,} decoded images, {end / 1e9:.1f} GB on disk; remove it when no run needs it")


def _check_room(path: Path, needed: int) -> None:
    """Refuse before the disk is full: other programs need some of it."""
    room = shutil.disk_usage(path.parent)
    if room.free - needed < min(_KEPT_FREE * room.total, _MOST_KEPT_FREE):
        raise OutputError(
            f"{path}: no room for decoded images: {needed / 1e9:.1f} GB more, {room.free / 1e9:.1f} GB are free",
            "`data.store=ram` or disk, or FACETRAIN_CACHE for a cache folder on another disk",
        )
