"""What a command says: the result on stdout, the conversation on stderr.

Only the standard library is imported here. rich comes in when a progress bar is drawn on a terminal, and not before.
"""

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import typer

from facetrain import __version__
from facetrain.cli.flags import flags_of, in_flags
from facetrain.core.documents.common import Problem
from facetrain.core.errors import FacetrainError, OutputError, UsageError
from facetrain.core.inert import for_terminal
from facetrain.core.suggest import nearest

Advance = Callable[..., None]  # advance(done=1, note="", total=None)

_flags: dict[str, str] = {}  # of the command that is running: one process runs one
_QUIET_SECONDS = 10.0  # between two progress lines where there is no terminal


def harden_streams() -> None:
    """Let a character that the terminal cannot show become a mark instead of a UnicodeEncodeError."""
    # a stream that was closed before the start is None: what is said there goes nowhere
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def speak_for(command: object) -> None:
    """Name fields in errors as the flags of this Typer command."""
    _flags.clear()
    _flags.update(flags_of(command))


def say(text: str) -> None:
    """One line of conversation: progress, a warning, a hint. Goes to stderr."""
    with suppress(OSError):  # nobody listens any more: no reason to end the work
        print(for_terminal(text), file=sys.stderr, flush=True)


def say_error(error: FacetrainError) -> None:
    """A user's mistake on stderr: what was wrong, and what to do. Lists in either keep their lines."""
    say(f"error: {in_flags(error.message.strip(), _flags)}")
    if error.hint:
        say(f"hint: {in_flags(error.hint.strip(), _flags)}")


@contextmanager
def interruptible(said: str | None = None) -> Iterator[list[str]]:
    """Let Ctrl-C end a block: the list that is given gets an element, and what follows tells what was done.

    said: a line on stderr in place of that, and the command leaves with 130
    """
    happened: list[str] = []
    try:
        yield happened
    except KeyboardInterrupt:
        happened.append("Ctrl-C")
        if said is not None:
            say(f"interrupted: {said}")
            raise typer.Exit(130) from None


def line(text: str) -> None:
    """One line of a result that grows while the command works. Goes to stdout."""
    _print(text)
    if stdout_is_terminal():
        flush()


def write(text: str) -> None:
    """A piece of a result on stdout at once, such as one line of many that another program reads as they come."""
    with _stdout_errors():
        sys.stdout.write(for_terminal(text))
        sys.stdout.flush()


def stdout_is_terminal() -> bool:
    """Whether somebody watches the result come."""
    return sys.stdout is not None and sys.stdout.isatty()


def flush() -> None:
    """Hand what was printed so far to the system. Raises OutputError, or BrokenPipeError where the reader has left."""
    if sys.stdout is not None:  # None after `facetrain … >&-`
        with _stdout_errors():
            sys.stdout.flush()


def discard_stdout() -> None:
    """Send what is still to come nowhere, so that Python does not fail on it once more while it shuts down."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = None


def result(document: Mapping[str, Any], text: str, *, as_json: bool = False) -> None:
    """The result of a command on stdout: `text`, or with `as_json` the document as JSON behind schema and version.

    Values that JSON does not have (NaN, infinity) must have become None before; characters beyond ASCII are escaped,
    so that the document is the same whatever the terminal's encoding.
    """
    if as_json:
        text = _as_json({"schema": 1, "facetrain": __version__, **document})
    _print(text)


def error_entry(error: FacetrainError, path: str | None = None) -> Problem:
    """One element of `errors` in a JSON document."""
    hint = None if error.hint is None else in_flags(error.hint, _flags)
    return {"path": path, "code": error.code, "message": in_flags(error.message, _flags), "hint": hint}


def parse_size(text: str, option: str = "--size", word: str = "") -> tuple[int, int]:
    """(width, height) of `320` or `640x480`. Raises UsageError that names the option and `word`, another value."""
    sides = text.lower().split("x")
    try:
        size = int(sides[0]), int(sides[-1])
    except ValueError:
        size = 0, 0
    if min(size) < 1 or len(sides) > 2:
        hint = f"{f'{word}, ' if word else ''}a number such as 320, or WIDTHxHEIGHT such as 640x480"
        near = nearest(text, [word])
        raise UsageError(f"{option} {text}: not a size", f"did you mean '{near}'? {hint}" if near else hint)
    return size


def parse_scales(text: str) -> tuple[float, ...]:
    """The factors of `0.5,1,2`. Raises UsageError."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--scales {text}: not numbers", "such as 0.5,1,2") from error


def table(rows: Sequence[Sequence[str]], numbers_from: int = 1, numbers_to: int | None = None) -> str:
    """Rows of cells as aligned plain text, the first row being the heading.

    The columns from `numbers_from` on, and before `numbers_to` where that is given, stand right.
    """
    numbers = range(len(rows[0]))[numbers_from:numbers_to]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if i in numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


@contextmanager
def progress(what: str, total: int | None = None, *, shown: bool = True) -> Iterator[Advance]:
    """Show how far a work of `total` steps (None: unknown) has come, on stderr.

    Gives `advance(done=1, note="", total=None)`; a total that is known later comes with it. On a terminal a bar with
    the remaining time; elsewhere a plain line now and then.
    """
    if not shown:
        yield _no_progress
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        yield from _bar(what, total)
    else:
        yield from _lines(what, total)


def _no_progress(done: int = 1, note: str = "", total: int | None = None) -> None:
    pass


def _bar(what: str, total: int | None) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    # stdout stays untouched: what a command prints there belongs to whoever reads it, not to the bar
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False, transient=True) as bar:
        task = bar.add_task(what, total=total, note="")

        def advance(done: int = 1, note: str = "", total: int | None = None) -> None:
            bar.update(task, advance=done, note=for_terminal(note), total=total)

        yield advance


def _lines(what: str, total: int | None) -> Iterator[Advance]:
    reached = 0
    begun = spoken = time.monotonic()

    def advance(done: int = 1, note: str = "", total: int | None = total) -> None:
        nonlocal reached, spoken
        reached += done
        if time.monotonic() - spoken >= _QUIET_SECONDS:
            spoken = time.monotonic()
            text = f"{what} {reached}/{total or '?'} {note}".rstrip()
            going = total is not None and 0 < reached < total
            say(
                f"{text}, about {(spoken - begun) / reached * (total - reached):.0f} s left"
                if going and total
                else text
            )

    yield advance


def _print(text: str) -> None:
    with _stdout_errors():
        print(for_terminal(text))


@contextmanager
def _stdout_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_stdout()
        raise OutputError(f"standard output: cannot be written: {error.strerror}", "is the disk full?") from error


def _as_json(document: Mapping[str, Any]) -> str:
    """A line for each key, and for each element of a list of objects: neither one endless line nor one per number."""
    entries = []
    for key, value in document.items():
        text = json.dumps(value, allow_nan=False)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            elements = ",\n    ".join(json.dumps(element, allow_nan=False) for element in value)
            text = f"[\n    {elements}\n  ]"
        entries.append(f"  {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(entries) + "\n}"
