"""Tables and lines within 80 columns: no word is broken, and a name that is too long loses its middle."""

import textwrap
from collections.abc import Sequence

from facetrain.cli import console

WIDTH = 80
_LEAST = 12  # of a name that is shortened


def fitted(rows: Sequence[Sequence[str]], headings: int = 1, numbers_from: int = 1) -> str:
    """A table whose first column, of names, takes what the others leave. headings: rows that are none of names."""
    others = sum(2 + max(len(row[i]) for row in rows) for i in range(1, len(rows[0])))
    room = max(WIDTH - others, _LEAST)
    names = [row[0] if i < headings else shortened(row[0], room) for i, row in enumerate(rows)]
    return console.table([[name, *row[1:]] for name, row in zip(names, rows, strict=True)], numbers_from)


def folded(rows: Sequence[Sequence[str]], numbers_from: int, numbers_to: int) -> str:
    """A table whose last column, of words, goes on in further lines where it is too wide."""
    others = sum(2 + max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1))
    lines: list[list[str]] = []
    for row in rows:
        first, *more = textwrap.wrap(row[-1], max(WIDTH - others, _LEAST), break_long_words=False) or [""]
        lines += [[*row[:-1], first], *([""] * (len(row) - 1) + [words] for words in more)]
    return console.table(lines, numbers_from, numbers_to)


def shortened(name: str, width: int) -> str:
    """The name with a mark in place of its middle, where it is longer than that. Its end is what tells files apart."""
    if len(name) <= width:
        return name
    end = width // 2
    return f"{name[: width - end - 1]}…{name[-end:]}"


def wrapped(line: str) -> str:
    """A line of words as several of 80 columns, those behind the first set in."""
    return textwrap.fill(line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
