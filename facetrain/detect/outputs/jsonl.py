"""JSON lines: how faces were looked for, then one line for each image or frame, as soon as it was looked at."""

import json

from facetrain import __version__
from facetrain.core.documents.detect import FailedLine, LinesHead, VideoEnd
from facetrain.core.errors import UsageError
from facetrain.detect.looked import Ending, Looked, Wishes
from facetrain.detect.place import Place
from facetrain.detect.resume import Done, cut_off, read_done
from facetrain.detect.sink import STDOUT, Sink, text_sink
from facetrain.media.frame import Source

HELP = "JSON, a line for each image or frame as it comes: a file, or - for standard output"
WHERE = "file or -"
USES = ("resume",)


class JsonLines:
    """Writes whole lines, so that the file can be read at any time, also after a kill.

    done: what an earlier call has written
    """

    any_order = False
    waits = False

    def __init__(self, sink: Sink, head: LinesHead, done: Done) -> None:
        self.done = done
        self._sink = sink
        self._head = head
        self._begun = done.whole > 0
        self._last: VideoEnd | None = None  # of the moving source whose frames came last

    def add(self, looked: Looked) -> None:
        """A line more."""
        self._begin(looked.source.name)
        self._line(looked.as_dict())
        if looked.frame.time is not None:
            self._last = {"path": looked.source.name, "frames": looked.frame.index + 1}

    def end(self, source: Source) -> None:
        """A moving source's end is told with what follows: it may be the end of the call that ended it."""

    def broke_off(self, name: str) -> None:
        """A source failed. A moving one then has no end, so that a later call looks at what is missing."""
        if self._last is not None and self._last["path"] == name:
            self._last = None

    def finish(self, ending: Ending) -> None:
        """Say what failed."""
        if ending.interrupted:
            self._last = None
        self._begin()
        for problem in ending.errors:
            line: FailedLine = {"path": problem["path"] or "", "error": problem}
            self._line(line)
        self._sink.close()

    def _begin(self, path: str = "") -> None:
        """Write what has to stand before a line of `path`: the first line, the end of another moving source."""
        if not self._begun:
            self._begun = True
            self._line(self._head)
        if self._last is not None and self._last["path"] != path:
            self._line(self._last)
            self._last = None

    def _line(self, value: object) -> None:
        self._sink.write(json.dumps(value, allow_nan=False) + "\n")


def make(place: Place, wishes: Wishes) -> JsonLines:
    """The output. Raises UsageError where there are lines of other settings to go on with."""
    head: LinesHead = {"schema": 1, "facetrain": __version__, **wishes.rules, **wishes.depends}  # type: ignore[typeddict-item]
    if not wishes.resume:
        return JsonLines(text_sink(place.path, wishes.stdout, whole=False), head, Done())
    if place.path == STDOUT:
        raise UsageError("`resume` needs a file", "such as `save` jsonl=faces.jsonl")
    done = read_done(place.path, head)
    cut_off(place.path, done)
    return JsonLines(text_sink(place.path, wishes.stdout, whole=False, append=True), head, done)
