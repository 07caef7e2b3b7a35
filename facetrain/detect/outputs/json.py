"""One JSON document, as `--json` prints it: written as frames come, so that no number of them fills the memory."""

import json
from collections.abc import Callable
from typing import Any

from facetrain import __version__
from facetrain.core.documents.detect import DetectRules
from facetrain.detect.looked import Ending, Looked, Wishes
from facetrain.detect.place import Place
from facetrain.detect.sink import text_sink
from facetrain.media.frame import Source

HELP = "one JSON document of all faces: a file"
WHERE = "file"
USES = ()


class JsonDocument:
    """Writes the document piece by piece. write: takes text as it is; done: called when all of it was written."""

    any_order = False
    waits = False

    def __init__(self, write: Callable[[str], object], rules: DetectRules, done: Callable[[], object]) -> None:
        self._write = write
        self._done = done
        self._head: dict[str, Any] = {"schema": 1, "facetrain": __version__, **rules}
        self._images = 0

    def add(self, looked: Looked) -> None:
        """One more element of `images`."""
        self._write((self._opening() if self._images == 0 else ",") + "\n    " + _as_json(looked.as_dict()))
        self._images += 1

    def end(self, source: Source) -> None:
        """Nothing is kept for a source alone."""

    def finish(self, ending: Ending) -> None:
        """What follows the images."""
        text = "\n  ]" if self._images else self._opening() + "]"
        for key, value in vars(ending).items():
            text += f",\n  {_as_json(key)}: "
            if value and isinstance(value, list) and isinstance(value[0], dict):
                text += "[\n    " + ",\n    ".join(map(_as_json, value)) + "\n  ]"
            else:
                text += _as_json(value)
        self._write(text + "\n}\n")
        self._done()

    def _opening(self) -> str:
        entries = (f"  {_as_json(key)}: {_as_json(value)},\n" for key, value in self._head.items())
        return "{\n" + "".join(entries) + '  "images": ['


def make(place: Place, wishes: Wishes) -> JsonDocument:
    """The output, into a file that is there when all of it is."""
    sink = text_sink(place.path, wishes.stdout, whole=True)
    return JsonDocument(sink.write, wishes.rules, sink.close)


def _as_json(value: Any) -> str:
    return json.dumps(value, allow_nan=False)
