"""Which sources the words on a command line mean, and under which name what is made of each is kept.

Existence is asked of `os.path`, which answers no for a file behind a closed folder; `Path` raises there.
"""

# ruff: noqa: PTH100, PTH110, PTH112, PTH113, PTH114, PTH118, PTH207

import glob
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from facetrain.core.errors import DataError, FacetrainError, InputError, UsageError, about
from facetrain.core.images import SUFFIXES, UNREADABLE
from facetrain.core.suggest import path_hint
from facetrain.core.words import count
from facetrain.media import animations, videos
from facetrain.media.addresses import file_name, is_address, is_stream, source_at, without_password
from facetrain.media.animations import Animation, is_animation
from facetrain.media.cameras import Camera
from facetrain.media.clip_writer import CLIPS
from facetrain.media.cut import Cut
from facetrain.media.frame import Failure, Source
from facetrain.media.lists import STDIN, is_list, read_list
from facetrain.media.still import Still
from facetrain.media.videos import Video

_GLOB = frozenset("*?[")
# What OpenCV also writes, in colour; an image of any other format is drawn as PNG.
WRITABLE = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm"))
_LONGEST_NAME = 255  # bytes; of nearly every file system
# Suffixes of videos that program texts have, too; and where a video of that kind has its marks (G), of 188 bytes each.
_SHARED = frozenset((".ts", ".mts", ".m2ts"))
_MARKS = ((0, 188), (4, 196))


@dataclass(frozen=True)
class Found:
    """sources: what to look at; failures: paths that gave nothing; skipped: images and videos that are not read."""

    sources: list[Source]
    failures: list[Failure]
    skipped: list[Path]

    def skipped_text(self) -> str:
        """One line that counts and names what was skipped: `skipped 3 images that are not decoded: 2 .heic, 1 .svg`."""
        films = [path for path in self.skipped if path.suffix.lower() in videos.SUFFIXES]
        images = [path for path in self.skipped if path not in films]
        parts = []
        if images:
            are = "that are" if len(images) > 1 else "that is"
            named = _by_kind(images)
            parts.append(f"skipped {count(len(images), 'image')} {are} not decoded: {named}; convert to JPEG")
        if films:
            parts.append(f"skipped {count(len(films), 'video')}: {_by_kind(films)}")
        return "; ".join(parts)


@dataclass(frozen=True)
class Places:
    """Where results go. folders: that are filled with results named after their sources, or numbered; files: others."""

    folders: Sequence[Path] = ()
    files: Sequence[Path] = ()


def find_sources(
    paths: Sequence[str],
    places: Places = Places(),
    cut: Cut = Cut(),  # noqa: B008 (frozen)
    *,
    stills: bool = False,
) -> Found:
    """Sources of files, folders (with all below), patterns, lists, addresses and cameras, in their order, each once.

    An existing file or folder wins over all else that reads the same; a pattern's matches count as if each had
    been given. Images of a folder keep their sub-folders in `target`; of two with the same target the later one
    gets a number. Files where results go are no input for a folder above them, and hidden ones never are.

    places: where results are written; where none are, sources may lie anywhere
    cut:    the part of moving sources that is looked at
    stills: images alone; an animation counts by its first, videos are skipped, cameras are none
    Raises UsageError where a result would replace a source.
    """
    finder = _Finder(places, cut, stills)
    for path in paths:
        finder.add(path)
    _protect_sources(finder.sources, places)
    return Found(finder.sources, finder.failures, finder.skipped)


class _Finder:
    """Collects sources and failures, and remembers which names are taken."""

    def __init__(self, places: Places, cut: Cut, stills: bool) -> None:
        self.sources: list[Source] = []
        self.failures: list[Failure] = []
        self.skipped: list[Path] = []
        self._cut = cut
        self._stills = stills
        self._results = {os.path.realpath(folder) for folder in places.folders}
        self._result_files = {os.path.realpath(file) for file in places.files}
        self._seen: set[str] = set()  # absolute paths of sources, and names of those that are no files
        self._taken: set[str] = set()  # targets, as a file system without upper and lower case sees them

    def add(self, given: str) -> None:
        """Take whatever one word of the command line means."""
        if is_list(given) and (given == STDIN or not os.path.lexists(given)):
            self._add_list(given)
        elif is_address(given) and not os.path.lexists(given):
            self._add_address(given)
        else:
            self._add_path(given)

    def _add_list(self, word: str) -> None:
        """What the lines of a list mean. Where none means anything it is none of paths: one error in place of many."""
        start = len(self.failures)
        try:
            lines = read_list(word)
            for line in lines:
                before = len(self.failures)
                if is_address(line.text):
                    self._add_address(line.text)
                else:
                    self._add_path(line.text, guess=False)
                self.failures[before:] = [
                    Failure(failure.path, about(line.where, failure.error)) for failure in self.failures[before:]
                ]
        except UsageError:  # a folder of images that is the one for the results
            raise
        except FacetrainError as error:
            self._fail(word, error)
            return
        wrong = self.failures[start:]
        if len(lines) == sum(isinstance(failure.error, InputError) for failure in wrong) > 1:
            text = f"{wrong[0].error.message[:200]}, and so for all of its {len(lines):,} lines"
            self.failures[start:] = [Failure(word, InputError(text, "a list has a path in each line"))]

    def _add_address(self, address: str) -> None:
        if address in self._seen:
            return
        self._seen.add(address)
        try:
            name = Path(file_name(address))
            target = self._free(name, CLIPS, ".mp4") if is_stream(address) else self._free(name, WRITABLE, ".png")
            self.sources.append(source_at(address, target, self._cut))
        except FacetrainError as error:
            self._fail(without_password(address), error)

    def _add_path(self, given: str, *, guess: bool = True) -> None:
        """guess: what is no path may be a camera, or a name that was meant otherwise."""
        path = Path(given)
        if given and os.path.lexists(path):
            self._add_existing(path)
            return
        if given.isascii() and given.isdecimal() and len(given) < 4 and guess and not self._stills:
            self._add_camera(int(given))
            return
        if not _GLOB.intersection(given):
            hint = path_hint(path) if given and guess else None
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
        if os.path.realpath(folder) in self._results:
            raise UsageError(
                f"{folder}: the folder of the images is the one for the results",
                "choose another `output`, so that no image is overwritten",
            )
        found = False
        for path in self._walk(folder, set()):
            found = True
            self._add_file(path, path.relative_to(folder))
        if not found and not any(Path(failure.path).is_relative_to(folder) for failure in self.failures):
            what = "images" if self._stills else "images or videos"
            known = SUFFIXES if self._stills else (*SUFFIXES, *sorted(videos.SUFFIXES))
            self._fail(str(folder), DataError(f"{folder}: no {what} in this folder", f"looked for {' '.join(known)}"))

    def _walk(self, folder: Path, above: set[str]) -> Iterator[Path]:
        """Images and videos below a folder, by name, a folder's own before those of its sub-folders."""
        real = os.path.realpath(folder)
        if real in above or (above and real in self._results):  # a link back to a folder above; our own results
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
            if entry not in folders and not special and os.path.realpath(entry.path) not in self._result_files:
                if suffix in SUFFIXES or _is_video(folder / entry.name, suffix):
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
        suffix = path.suffix.lower()
        if suffix in videos.SUFFIXES:
            if self._stills:
                self.skipped.append(path)
            else:
                self.sources.append(Video(str(path), absolute, self._free(target, CLIPS, ".mp4"), self._cut, path))
        elif suffix in animations.SUFFIXES and not self._stills and os.path.isfile(path) and is_animation(path):
            self.sources.append(Animation(path, self._free(target, CLIPS, ".webp"), self._cut))
        else:
            self.sources.append(Still(path, self._free(target, WRITABLE, ".png")))

    def _add_camera(self, number: int) -> None:
        name = f"camera {number}"
        if name not in self._seen:
            self._seen.add(name)
            self.sources.append(Camera(number, self._free(Path(f"camera-{number}.mp4"), CLIPS, ".mp4"), self._cut))

    def _free(self, target: Path, writable: frozenset[str], suffix: str) -> Path:
        """A target that no other source has, with `suffix` in place of one that cannot be written.

        Its name without the suffix is its own too: labels and crops go by that.
        """
        if target.suffix.lower() not in writable:
            target = target.with_name(f"{target.stem}{suffix}")
        target = _numbered(target, "")
        free, number = target, 1
        while _folded(free.with_suffix("")) in self._taken:
            number += 1
            free = _numbered(target, f"-{number}")
        self._taken.add(_folded(free.with_suffix("")))
        return free

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


def _protect_sources(sources: Sequence[Source], places: Places) -> None:
    """Refuse where a result would take the place of a source, by whatever name or link either is reached."""
    folders = [folder for folder in places.folders if os.path.isdir(folder)]
    files = [file for file in places.files if os.path.exists(file)]
    if not folders and not files:
        return
    identities = {_identity(source.path): source.path for source in sources if source.path is not None}
    results = [(folder / source.target, source.name) for folder in folders for source in sources]
    for result, made_of in [*results, *((file, "") for file in files)]:
        lost = identities.get(_identity(result)) if os.path.exists(result) else None
        if lost is not None:
            raise UsageError(
                f"{lost}: would be overwritten by the result{f' for {made_of}' if made_of else ''}",
                "choose another `output`, not the images' own folder" if made_of else "choose another path",
            )


def _is_video(path: Path, suffix: str) -> bool:
    """Whether a folder's file is a video by its suffix, or for the suffixes that mean two things, by its start."""
    if suffix not in _SHARED:
        return suffix in videos.SUFFIXES
    try:
        with path.open("rb") as file:
            start = file.read(_MARKS[-1][-1] + 1)
    except OSError:
        return True  # looking at it will say why it cannot be read
    return any(len(start) > place[-1] and all(start[at] == ord("G") for at in place) for place in _MARKS)


def _by_kind(paths: Sequence[Path]) -> str:
    kinds = Counter(path.suffix.lower() for path in paths)
    return ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))


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
