"""Which images the paths on a command line mean, and under which name each drawn result is kept.

Existence is asked of `os.path`, which answers no for a file behind a closed folder; `Path` raises there.
"""

# ruff: noqa: PTH100, PTH110, PTH112, PTH113, PTH114, PTH118, PTH207, PTH208

import glob
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from facetrain.core.errors import DataError, FacetrainError, InputError, UsageError
from facetrain.core.images import SUFFIXES, UNREADABLE
from facetrain.core.suggest import nearest

_GLOB = frozenset("*?[")
# What OpenCV also writes, in colour; an image of any other format is drawn as PNG.
_WRITABLE = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm"))
_LONGEST_NAME = 255  # bytes; of nearly every file system


@dataclass(frozen=True)
class Source:
    """An image to look at. `target`: where the drawn one goes."""

    path: Path
    target: Path


@dataclass(frozen=True)
class Failure:
    """A path that gave nothing, and why."""

    path: str
    error: FacetrainError


@dataclass(frozen=True)
class Found:
    """sources: what to look at; failures: paths that gave nothing; skipped: images of a folder that are not read."""

    sources: list[Source]
    failures: list[Failure]
    skipped: list[Path]

    def skipped_text(self) -> str:
        """One line that counts and names what was skipped: `skipped 3 images that are not decoded: 2 .heic, 1 .svg`."""
        kinds = Counter(path.suffix.lower() for path in self.skipped)
        named = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
        count = len(self.skipped)
        return f"skipped {count} image{'s that are' if count > 1 else ' that is'} not decoded: {named}; convert to JPEG"


def find_sources(paths: Sequence[str], output: Path, *, drawn: bool = True) -> Found:
    """Images of files, folders (with all below) and patterns, in the order given, each once.

    An existing file or folder wins over a pattern that reads the same; a pattern's matches count as if each had
    been given. Images of a folder keep their sub-folders below `output`; of two with the same target the later one
    gets a number. Files in `output` are no input for a folder above it, and hidden ones never are.
    drawn: whether results are written; without, a source may lie where they would. Raises UsageError where a result
    would replace a source.
    """
    finder = _Finder(output, drawn)
    for path in paths:
        finder.add(path)
    if drawn:
        _protect_sources(finder.sources, output)
    return Found(finder.sources, finder.failures, finder.skipped)


class _Finder:
    """Collects sources and failures, and remembers which names are taken."""

    def __init__(self, output: Path, drawn: bool) -> None:
        self.sources: list[Source] = []
        self.failures: list[Failure] = []
        self.skipped: list[Path] = []
        self._output = output
        self._drawn = drawn
        self._real_output = os.path.realpath(output)
        self._seen: set[str] = set()  # absolute paths of sources
        self._taken: set[str] = set()  # targets, as a file system without upper and lower case sees them

    def add(self, given: str) -> None:
        """Take whatever one path of the command line means."""
        path = Path(given)
        if given and os.path.lexists(path):
            self._add_existing(path)
            return
        if not _GLOB.intersection(given):
            near = nearest(path.name, _names(path.parent)) if given else None
            hint = f"did you mean {path.parent / near}?" if near else None
            self._fail(given, InputError(f"{given or 'empty path'}: no such file or folder", hint))
            return
        matches = _expand(path)
        if not matches:
            self._fail(given, InputError(f"{given}: nothing matches this pattern"))
        for match in matches:
            self._add_existing(match, waits=False)

    def _add_existing(self, path: Path, waits: bool = True) -> None:
        """waits: a pipe is read, because it was named; one that a pattern matches would be waited for without end."""
        if os.path.isdir(path):
            self._add_folder(path)
        elif os.path.isfile(path) or (waits and _is_pipe(path)):
            self._add_file(path, Path(path.name))
        elif os.path.islink(path) and not os.path.exists(path):
            self._fail(str(path), DataError(f"{path}: a link to something that is not there"))
        else:
            self._fail(str(path), DataError(f"{path}: neither a file nor a folder"))

    def _add_folder(self, folder: Path) -> None:
        if self._drawn and os.path.realpath(folder) == self._real_output:
            raise UsageError(
                f"{folder}: the folder of the images is the one for the results",
                "choose another `output`, so that no image is overwritten",
            )
        found = False
        for path in self._walk(folder, set()):
            found = True
            self._add_file(path, path.relative_to(folder))
        if not found and not any(Path(failure.path).is_relative_to(folder) for failure in self.failures):
            known = f"looked for {' '.join(SUFFIXES)}"
            self._fail(str(folder), DataError(f"{folder}: no images in this folder", known))

    def _walk(self, folder: Path, above: set[str]) -> Iterator[Path]:
        """Image files below a folder, by name, a folder's own before those of its sub-folders."""
        real = os.path.realpath(folder)
        if real in above or (above and real == self._real_output):  # a link back to a folder above; our own results
            return
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self._fail(str(folder), DataError(f"{folder}: cannot be opened: {error.strerror}"))
            return
        entries = [entry for entry in entries if not entry.name.startswith(".")]
        folders = [entry for entry in entries if os.path.isdir(entry.path)]
        for entry in entries:
            # a pipe or device of that name would be waited for without end
            special = os.path.exists(entry.path) and not os.path.isfile(entry.path)
            suffix = Path(entry.name).suffix.lower()
            if entry not in folders and not special:
                if suffix in SUFFIXES:
                    yield folder / entry.name
                elif suffix in UNREADABLE:
                    self.skipped.append(folder / entry.name)
        for entry in folders:
            yield from self._walk(folder / entry.name, above | {real})

    def _add_file(self, path: Path, target: Path) -> None:
        absolute = os.path.abspath(path)  # not resolve(): two links to one file are two sources
        if absolute in self._seen:
            return
        self._seen.add(absolute)
        if target.suffix.lower() not in _WRITABLE:
            target = target.with_name(f"{target.stem}.png")
        target = _numbered(target, "")
        free, number = target, 1
        while _folded(free) in self._taken:
            number += 1
            free = _numbered(target, f"-{number}")
        self._taken.add(_folded(free))
        self.sources.append(Source(path, self._output / free))

    def _fail(self, path: str, error: FacetrainError) -> None:
        self.failures.append(Failure(path, error))


def _numbered(target: Path, number: str) -> Path:
    """The path with a number at its stem's end, which gives way where the name would be too long."""
    stem = target.stem
    while len(os.fsencode(f"{stem}{number}{target.suffix}")) > _LONGEST_NAME:
        stem = stem[:-1]
    return target.with_name(f"{stem}{number}{target.suffix}")


def _expand(pattern: Path) -> list[Path]:
    """Files and folders that match a pattern, sorted. Its leading part that exists as it stands is taken literally."""
    base = Path(pattern.anchor)
    parts = list(pattern.relative_to(pattern.anchor).parts)
    while parts and os.path.exists(base / parts[0]):
        base /= parts.pop(0)
    return sorted(set(_matches(base, parts)))


def _matches(base: Path, parts: Sequence[str]) -> Iterator[Path]:
    """What the parts of a pattern match below `base`; `**` goes into each real folder once, so that loops of links end.

    (`glob` with `recursive` goes round a loop forty times, and round two of them for ever.)
    """
    if "**" not in parts:
        yield from (base / match for match in glob.glob(os.path.join(*parts), root_dir=base)) if parts else [base]
        return
    place = parts.index("**")
    rest = parts[place + 1 :]
    for start in _matches(base, parts[:place]):
        seen: set[str] = set()
        for folder, below, _ in os.walk(start, followlinks=True):
            below[:] = sorted(name for name in below if not name.startswith("."))
            real = os.path.realpath(folder)
            if real in seen:
                below.clear()
                continue
            seen.add(real)
            if rest:
                yield from _matches(Path(folder), rest)
            else:
                yield from (path for path in _matches(Path(folder), ["*"]) if not os.path.isdir(path))


def _protect_sources(sources: Sequence[Source], output: Path) -> None:
    """Refuse where a result would take the place of a source, by whatever name or link either is reached."""
    if not os.path.isdir(output):
        return
    identities = {_identity(source.path): source.path for source in sources}
    for source in sources:
        lost = identities.get(_identity(source.target)) if os.path.exists(source.target) else None
        if lost is not None:
            raise UsageError(
                f"{lost}: would be overwritten by the result for {source.path}",
                "choose another `output`, not the images' own folder",
            )


def _is_pipe(path: Path) -> bool:
    try:
        return stat.S_ISFIFO(path.stat().st_mode)
    except OSError:
        return False


def _identity(path: Path) -> tuple[int, int] | str:
    try:
        status = path.stat()
    except OSError:
        return str(path)
    return status.st_dev, status.st_ino


def _folded(path: Path) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
