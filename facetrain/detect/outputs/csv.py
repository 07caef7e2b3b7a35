"""CSV: a header, then a row for each face, and one without a box for an image or frame that has none.

Of still images the columns are those of the label format of that name (`data/formats/csv`), which reads them.
"""

import csv
import io

from facetrain.detect.looked import Ending, Looked, Wishes
from facetrain.detect.place import Place
from facetrain.detect.sink import Sink, text_sink
from facetrain.media.frame import Source

HELP = "CSV, a row for each face: a file, or - for standard output"
WHERE = "file or -"
USES = ()

_FIRST = ("image", "frame", "time", "image_width", "image_height", "x1", "y1", "x2", "y2", "score", "id")


class CsvTable:
    """Writes whole rows, so that the file can be read at any time."""

    any_order = False
    waits = False

    def __init__(self, sink: Sink, names: list[str]) -> None:
        self._sink = sink
        self._names = names
        self._begun = False

    def add(self, looked: Looked) -> None:
        """The rows of a frame."""
        self._begin()
        entry = looked.as_dict()
        start = [entry["path"], entry.get("frame", ""), entry.get("time", ""), entry["width"], entry["height"]]
        rows: list[list[object]] = []
        for face in entry["faces"]:
            points = [value for point in face["landmarks"] or () for value in point]
            rows.append([*start, *face["box"], face["score"], face.get("id", ""), *points])
        self._rows(rows or [[*start, *[""] * (6 + 2 * len(self._names))]])

    def end(self, source: Source) -> None:
        """Nothing is kept for a source alone."""

    def finish(self, ending: Ending) -> None:
        """The last row was written already."""
        self._begin()
        self._sink.close()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._rows([[*_FIRST, *(f"{name}_{axis}" for name in self._names for axis in "xy")]])

    def _rows(self, rows: list[list[object]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._sink.write(text.getvalue())


def make(place: Place, wishes: Wishes) -> CsvTable:
    """The output."""
    return CsvTable(text_sink(place.path, wishes.stdout, whole=False), wishes.rules["landmark_names"])
