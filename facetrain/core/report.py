"""A report is a folder with a page in it, which needs no script and no network: written whole or not at all."""

import shutil
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from facetrain.core.errors import OutputError, UsageError
from facetrain.core.words import count

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_LEFT_BY_FILE_MANAGERS = {".DS_Store", "Thumbs.db", "desktop.ini"}


def check_report(folder: Path, parts: Set[str], mark: str) -> None:
    """Refuse a folder that holds anything but an earlier report. Raises UsageError; nothing is changed.

    parts: the names that a report may consist of; mark: what its page has near its beginning
    """
    hint = "name a new folder, or one that holds an earlier report and nothing else"
    try:
        if not folder.exists():
            return
        names = sorted(path.name for path in folder.iterdir())
        index = folder / "index.html"
        is_report = index.is_file() and mark in index.read_text(encoding="utf-8", errors="replace")[:2000]
    except OSError as error:
        raise UsageError(f"{folder}: not a folder for a report: {error.strerror}", hint) from error
    foreign = [name for name in names if name not in parts | _LEFT_BY_FILE_MANAGERS or not is_report]
    if foreign:
        raise UsageError(f"{folder}: holds something else than an earlier report, such as {foreign[0]}", hint)


@contextmanager
def writing_report(folder: Path, parts: Set[str], mark: str) -> Iterator[Path]:
    """Give a new folder to write a report into; in the end it takes the place of an earlier one at `folder`.

    Raises UsageError where the folder holds something else, OutputError where it cannot be written.
    """
    check_report(folder, parts, mark)
    place = folder.resolve()  # a link to the folder stays one
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.", ignore_cleanup_errors=True) as scratch:
            new = Path(scratch, "new")
            new.mkdir()
            yield new
            _put(new, place, Path(f"{scratch}-earlier"))
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}", "choose another folder") from error


def _put(new: Path, place: Path, earlier: Path) -> None:
    """Move a finished report into its place; the earlier one is deleted only when the new one stands there."""
    try:
        if place.exists():
            place.rename(earlier)
        new.rename(place)
    except BaseException:
        if earlier.exists() and not place.exists():
            earlier.rename(place)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def templates(folder: Path) -> "Environment":
    """The page templates of a folder, and base_page.html, which they extend. Whatever they are given is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {"count": count, "breakable": breakable}
    return found


def breakable(name: str) -> "Markup":
    """A path that a line may break in."""
    from markupsafe import Markup, escape

    return escape(name).replace("/", Markup("/<wbr>")).replace("_", Markup("_<wbr>"))
