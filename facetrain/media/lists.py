"""Lists of paths: a file that is named behind an @, or standard input."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from facetrain.core.errors import DataError, InputError
from facetrain.core.image_header import read_header

_MOST = 1 << 30  # bytes
STDIN = "-"


@dataclass(frozen=True)
class Line:
    """A line of a list. where: the list and the line's number, from 1; text: a path, or what else a source is."""

    where: str
    text: str


def is_list(word: str) -> bool:
    """Whether a word of the command line stands for a list."""
    return word == STDIN or (word.startswith("@") and len(word) > 1)


def read_list(word: str) -> list[Line]:
    """The lines of a list that are not blank; NULs divide them where there are any, as `find -print0` writes them.

    A path that is not there, but is beside the list's file, is the one beside it.
    Raises InputError where there is no such file, DataError where it is none of paths.
    """
    name = "standard input" if word == STDIN else word[1:]
    content = _content(word, name)
    if read_header(content[: 1 << 16], name) is not None:
        raise DataError(f"{name}: an image, not a list of paths", "leave out the @" if word != STDIN else None)
    divided = content.split(b"\0" if b"\0" in content else b"\n")
    texts = [line.decode("utf-8", "surrogateescape").strip("\r\n\ufeff") for line in divided]
    lines = [Line(f"{name}:{number}", text) for number, text in enumerate(texts, 1) if text.strip()]
    if not lines:
        raise DataError(f"{name}: an empty list", "a list has a path in each line")
    folder = None if word == STDIN else Path(name).parent
    return list(_beside(lines, folder))


def _beside(lines: list[Line], folder: Path | None) -> Iterator[Line]:
    for line in lines:
        near = None if folder is None else folder / line.text
        there = near is not None and not _exists(Path(line.text)) and _exists(near)
        yield Line(line.where, str(near)) if there else line


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a line that cannot be a path
        return False


def _content(word: str, name: str) -> bytes:
    try:
        if word == STDIN:
            if sys.stdin is None or sys.stdin.isatty():
                raise InputError("standard input: a terminal, not a list of paths", "such as find photos | facetrain …")
            content = sys.stdin.buffer.read(_MOST + 1)
        else:
            with Path(name).open("rb") as file:
                content = file.read(_MOST + 1)
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}", "a list is a text file of paths") from error
    if len(content) > _MOST:
        raise DataError(f"{name}: too large for a list", f"at most {_MOST >> 20} MiB")
    return content
