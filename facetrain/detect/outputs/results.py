"""Result files in the layout of WIDER FACE's evaluation: a text file for each image."""

from pathlib import Path

from facetrain.core.files import write_text
from facetrain.detect.looked import Ending, Looked, Wishes
from facetrain.detect.place import Place
from facetrain.detect.result_text import result_text
from facetrain.media.frame import Source

HELP = "a text file for each image, as WIDER FACE's evaluation takes them: a folder"
WHERE = "folder"
USES = ()


class Results:
    """Writes `<name>.txt`, of moving sources `<name>/<frame>.txt`."""

    any_order = True
    waits = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, looked: Looked) -> None:
        """The file of a frame."""
        target = looked.source.target
        name = target.parent / target.stem
        if looked.frame.time is not None:
            name /= f"{looked.frame.index:06d}"
        write_text(self._folder / f"{name}.txt", result_text(name.name, looked.faces))

    def end(self, source: Source) -> None:
        """All is written already."""

    def finish(self, ending: Ending) -> None:
        """All is written already."""


def make(place: Place, wishes: Wishes) -> Results:
    """The output."""
    return Results(place.path)
