"""Detections as text files, one an image, in the layout of WIDER FACE's official evaluation.

    <folder>/<event>/<image>.txt
        0--Parade/0_Parade_marchingband_1_465.jpg     the image; tools differ here, so it is not read
        2                                             how many lines follow
        345.12 210.98 4.2 5.1 0.87311                 x y width height score, blanks between
        331.0 126.4 3.7 8.0 0.41207

Scores may be any numbers, more is better. An image without a file has no detections. Beside the files that facetrain
writes lies protocol.json, which says how the images were shown.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import cast

import numpy as np

from facetrain.core.documents.common import ProtocolDocument
from facetrain.core.errors import DataError, InputError, OutputError, UsageError
from facetrain.core.faces import Faces
from facetrain.core.suggest import path_hint
from facetrain.detect.result_text import LARGEST, result_text

_MAX_BYTES = 64 << 20  # about a million detections
_PROTOCOL = "protocol.json"
_MAX_PROTOCOL = 1 << 16
_LINE = "a detection is `x y width height score`"


def write_predictions(
    folder: Path, names: Sequence[str], found: Sequence[Faces], protocol: ProtocolDocument | None = None
) -> None:
    """Write a file for every image, `<folder>/<name>.txt`, also where nothing was found.

    names:    `<event>/<image>` without suffix, one for each of `found`; a data set without events has shorter ones
    protocol: how images were shown, kept beside the files for `read_protocol`

    The folder appears with all its files or not at all. Raises UsageError where it holds something already, DataError
    for an image whose numbers or name a file cannot hold, OutputError where it cannot be written.
    """
    check_free(folder)
    check_names(names)
    try:
        with _whole_folder(folder) as scratch:
            for parent in {PurePosixPath(name).parent for name in names}:
                (scratch / parent).mkdir(parents=True, exist_ok=True)
            for name, faces in zip(names, found, strict=True):
                (scratch / f"{name}.txt").write_bytes(result_text(name, faces).encode("utf-8", "surrogateescape"))
            if protocol is not None:
                (scratch / _PROTOCOL).write_text(json.dumps(protocol, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}", "is the disk full?") from error


def read_protocol(folder: Path) -> ProtocolDocument:
    """How images were shown for the files of a folder, where facetrain wrote them; empty for those of others.

    Raises DataError for a file of that name that holds something else.
    """
    path = folder / _PROTOCOL
    try:
        text = path.read_bytes()[:_MAX_PROTOCOL]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not all(map(_is_plain, document.values())):
        raise DataError(f"{path}: not the protocol of result files", "remove it, if it is none of theirs")
    return cast("ProtocolDocument", document)


def _is_plain(value: object) -> bool:
    """Whether a protocol may hold this: a number, a short text, or a few numbers."""
    if isinstance(value, list):
        return len(value) <= 100 and all(isinstance(item, (int, float)) for item in value)
    return isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= 100)


def check_free(folder: Path) -> None:
    """Raise UsageError unless the folder is absent or empty: files of two detectors must not be mixed."""
    try:
        empty = not any(folder.iterdir())
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise UsageError(f"{folder}: not a folder", "choose another place for the predictions") from error
    except OSError as error:
        raise OutputError(f"{folder}: cannot be read: {error.strerror}", "choose another folder") from error
    if not empty:
        raise UsageError(f"{folder}: the folder is not empty", "choose another one for the predictions, or remove it")


def read_predictions(folder: Path, names: Sequence[str]) -> tuple[list[Faces], list[str]]:
    """Read the files of the named images, each best first, equal scores in the file's order.

    names: `<event>/<image>` without suffix. A folder in which all files lie flat, `<image>.txt`, will do as well
           if no two events have images of one name.

    Returns the faces of each name, without landmarks and in float64 (all the digits of the file), and the names without
    a file: they have no detections. Boxes of negative size are taken as they are. Raises DataError naming file and
    line, InputError where the folder has none of the files.
    """
    check_names(names)
    if not folder.is_dir():
        raise InputError(f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}", path_hint(folder))
    files = _find_files(folder, names)
    found = [_read_file(files[name]) if name in files else Faces.none() for name in names]
    return found, [name for name in names if name not in files]


def check_names(names: Sequence[str]) -> None:
    """Raise DataError for a name that leads out of the folder, or that two images share."""
    seen: set[str] = set()
    for name in names:
        if any(part in ("", ".", "..") for part in name.split("/")) or "\\" in name or "\0" in name:
            raise DataError(f"{name!r}: no name for a prediction file", "it must be a relative path")
        if name in seen:
            raise DataError(f"{name}: two images have this name, but for the suffix", "rename one of them")
        seen.add(name)


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """Give a scratch folder; on success its content becomes `folder`, on failure nothing is left."""
    # A folder that is there stays: it may be a mount or a link. Only then is filling it more than one step.
    there = folder.exists()
    scratch = (folder if there else folder.parent) / f".{secrets.token_hex(8)}.tmp"
    try:
        scratch.mkdir(parents=True)
        yield scratch
        if there:
            for part in sorted(scratch.iterdir()):
                part.rename(folder / part.name)
        else:
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _find_files(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """The files of those names that have one. Raises InputError if none has, or if it is unclear which is whose."""
    flat = {name: name.rpartition("/")[2] for name in names}
    # One listing for each event: asking for every file takes several times as long, on a network drive much longer.
    listed = {parent: _file_names(folder / parent) for parent in {name.rpartition("/")[0] for name in names}}
    nested = {name for name in names if f"{flat[name]}.txt" in listed[name.rpartition("/")[0]]}
    top = _file_names(folder)
    loose = {name for name in names if "/" in name and f"{flat[name]}.txt" in top}
    if nested and loose:
        raise InputError(
            f"{folder}: files both in folders and beside them, such as {min(nested)}.txt and {flat[min(loose)]}.txt",
            "keep only those that are meant",
        )
    if nested:
        return {name: folder / f"{name}.txt" for name in names if name in nested}
    if loose and len(set(flat.values())) < len(names):
        raise InputError(
            f"{folder}: files without event folders, but several events have images of one name",
            f"put them into folders, such as {names[0]}.txt",
        )
    if names and not loose:
        found = _some_files(folder)
        raise InputError(
            f"{folder}: no file of any of the {len(names):,} images, such as {names[0]}.txt",
            f"it has {', '.join(found)}" if found else "it has no .txt file at all",
        )
    return {name: folder / f"{flat[name]}.txt" for name in names if name in loose}


def _file_names(folder: Path) -> frozenset[str]:
    """Names of what lies in a folder; none if it is not there."""
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208  # names are wanted, a Path each costs ten times as much
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error


def _some_files(folder: Path) -> list[str]:
    """Up to three .txt files below a folder, for a message; a large folder is not searched to its end."""
    some = islice(folder.rglob("*"), 10_000)
    return list(islice((path.relative_to(folder).as_posix() for path in some if path.suffix == ".txt"), 3))


def _read_file(path: Path) -> Faces:
    lines = _read_lines(path)
    count = lines[1].strip() if len(lines) > 1 else b""
    if not count.isdigit() or len(count) > 9:
        raise DataError(
            f"{path}:2: {_shown(count)}: not the number of detections",
            "a file begins with the image's name and, on the next line, how many lines follow",
        )
    rows = [line.split() for line in lines[2:]]
    try:
        values = np.array(list(map(float, chain.from_iterable(rows))))
    except ValueError:
        raise _wrong_line(path, lines) from None
    # Python reads 1_0 as 10
    if not set(map(len, rows)) <= {5} or not (np.abs(values) <= LARGEST).all() or any(b"_" in x for x in lines[2:]):
        raise _wrong_line(path, lines)
    if len(rows) != int(count):
        raise DataError(
            f"{path}:2: the count is {int(count)}, but the lines below it are {len(rows)}", "is the file cut off?"
        )
    table = values.reshape(-1, 5)
    table = table[np.argsort(-table[:, 4], kind="stable")]
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return Faces(boxes, table[:, 4].copy(), np.zeros((len(table), 0, 2), np.float32))


def _read_lines(path: Path) -> list[bytes]:
    """The lines, whatever ends them, without blank ones at the end."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise DataError(f"{path}: too large (more than {_MAX_BYTES >> 20} MiB)")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: UTF-16 text", "save it as UTF-8")
    return content.rstrip().splitlines()


def _wrong_line(path: Path, lines: Sequence[bytes]) -> DataError:
    """The error for the first line that is no detection."""
    for number, line in enumerate(lines[2:], 3):
        tokens = line.split()
        if len(tokens) != 5:
            return DataError(f"{path}:{number}: {_shown(line)}: five columns are wanted, not {len(tokens)}", _LINE)
        for token in tokens:
            if (problem := _problem(token)) is not None:
                return DataError(f"{path}:{number}: {_shown(token)}: {problem}", _LINE)
    raise AssertionError("called only where a line is wrong")


def _problem(token: bytes) -> str | None:
    """What is wrong with a number, if anything."""
    try:
        value = float(token)
    except ValueError:
        return "not a number"
    if b"_" in token:
        return "not a number"
    return None if abs(value) <= LARGEST else "not a finite number"


def _shown(text: bytes) -> str:
    return repr(text.strip()[:60].decode(errors="replace"))
