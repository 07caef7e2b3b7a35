"""`--save FORMAT=PATH`: what is made of found faces, and where it goes.

A format is a file in `outputs/`, see `Format`; label formats that can be written (`data/formats`) are formats too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Literal, Protocol, cast

from facetrain.core.errors import UsageError
from facetrain.core.files import check_file, check_folder
from facetrain.core.suggest import choices_hint, nearest
from facetrain.detect import outputs
from facetrain.detect.labels_output import LabelFormat, label_format_names
from facetrain.detect.looked import Output, Wishes
from facetrain.detect.place import Place
from facetrain.detect.sink import STDOUT
from facetrain.media.find import Places

Where = Literal["pixels", "folder", "file", "file or -"]


class Format(Protocol):
    """A file of `outputs/`: one way to keep found faces.

    HELP:  what is written, in a line
    WHERE: `pixels` a folder with an image or video for each source, or one of them by its suffix; `folder`; `file`;
           `file or -`, which may be standard output
    USES:  fields of `Wishes` that it has a use for
    SCORE: only of what must miss no face: the score down to which it wants them where none was asked for
    """

    HELP: str
    WHERE: Where
    USES: Sequence[str]

    def make(self, place: Place, wishes: Wishes) -> Output:
        """The output."""
        ...


@dataclass(frozen=True)
class Save:
    """One `FORMAT=PATH`."""

    name: str
    place: Place

    @property
    def format(self) -> Format:
        """The file of `outputs/`."""
        return format_of(self.name)

    @property
    def faintest(self) -> float | None:
        """The score down to which it wants faces where none was asked for; None where it has no wish."""
        return getattr(self.format, "SCORE", None)


@cache
def names() -> list[str]:
    """All formats. An output of its own wins over a label format of the same name: `csv`."""
    return sorted({*(module.name for module in iter_modules(outputs.__path__)), *label_format_names()})


def format_of(name: str) -> Format:
    """A format by its name. Raises UsageError with the nearest one."""
    if name not in names():
        raise UsageError(f"`save` {name}=…: no such format", choices_hint(name, names()))
    own = any(module.name == name for module in iter_modules(outputs.__path__))
    return cast("Format", import_module(f"{outputs.__name__}.{name}") if own else LabelFormat(name))


def parse_save(text: str, field: str = "save") -> Save:
    """One `FORMAT=PATH` of the command line. field: what the caller calls its path. Raises UsageError."""
    name, equals, path = text.partition("=")
    if not equals:
        near = nearest(Path(name).suffix.lstrip(".") or name, names())
        example = f"{near or 'json'}={name}" if near is None or name != near else f"{near}=PATH"
        raise UsageError(f"`save` {text}: not FORMAT=PATH", f"such as {example}; there are: {', '.join(names())}")
    kind = format_of(name)
    if not path:
        raise UsageError(f"`save` {text}: names no path", f"{name} wants {_WANTS[kind.WHERE]}")
    return Save(name, _place(name, kind, path, field))


_WANTS: dict[Where, str] = {
    "pixels": "a folder, or an image's or video's file",
    "folder": "a folder",
    "file": "a file",
    "file or -": "a file, or - for standard output",
}


def _place(name: str, kind: Format, text: str, field: str) -> Place:
    path = Path(text)
    if path == STDOUT and kind.WHERE != "file or -":
        raise UsageError(f"`save` {name}=-: only {_streams()} can go to standard output")
    if kind.WHERE == "pixels":
        return Place.named(text, field)
    if kind.WHERE == "folder":
        check_folder(path, field)
        return Place(path, one=False)
    if path != STDOUT:
        check_file(path, field)
    return Place(path, one=True)


def _streams() -> str:
    return " and ".join(name for name in names() if format_of(name).WHERE == "file or -")


def check_saves(saves: Sequence[Save], wishes: Wishes) -> None:
    """Raise UsageError for two outputs with one path, and for a wish that no output has a use for."""
    taken: dict[str, Save] = {}
    for save in saves:
        key = str(save.place.path) if save.place.path == STDOUT else str(save.place.path.resolve())
        if key in taken:
            raise UsageError(
                f"`save` {taken[key].name} and {save.name}: both go to {save.place.path}", "give each its own path"
            )
        taken[key] = save
    used = {use for save in saves for use in save.format.USES}
    wished = [field for field in fields(wishes) if field.name not in ("rules", "stdout", "depends")]
    for field in wished:
        if getattr(wishes, field.name) is not None and field.name not in used:
            users = [name for name in names() if field.name in format_of(name).USES]
            raise UsageError(f"`{field.name}` has no effect here", f"it goes with `save` {' or '.join(users)}")


def make_places(saves: Sequence[Save], sources: int) -> None:
    """Make the folders before the first image is read. Raises UsageError, also for one file and several sources."""
    for save in saves:
        if save.format.WHERE in ("pixels", "folder"):
            save.place.check_sources(sources, f"`save` {save.name}")
            save.place.make()


def places_of(saves: Sequence[Save]) -> Places:
    """The folders and files that will be written."""
    folders = [save.place.path for save in saves if not save.place.one]
    return Places(folders, [save.place.path for save in saves if save.place.one and save.place.path != STDOUT])
