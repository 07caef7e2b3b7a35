"""Found faces as a labelled set, in any label format that is written: labels, and the images beside them."""

from collections.abc import Sequence
from pathlib import Path

from facetrain.core.errors import UsageError
from facetrain.core.faces import LabelledImage
from facetrain.core.images import write_image
from facetrain.data.convert import held_by, put_image, writable
from facetrain.data.found import labels_of_faces
from facetrain.data.layout import format_module, format_names
from facetrain.detect.looked import Ending, Looked, Wishes
from facetrain.detect.place import Place
from facetrain.media.frame import Source

_QUALITY = 95  # of frames that are written as JPEG


class LabelledSet:
    """Links images and writes frames as they come; the labels when all sources are through."""

    any_order = False
    waits = False

    def __init__(self, name: str, folder: Path, points: Sequence[str]) -> None:
        self._format = writable(name)
        self._place = self._format.target(folder, "train")
        self._points = tuple(points)
        self._images: list[LabelledImage] = []

    def add(self, looked: Looked) -> None:
        """The labels of a frame, and its image."""
        source, frame = looked.source, looked.frame
        if source.path is not None and frame.time is None:
            name = source.target.with_suffix(source.path.suffix or source.target.suffix).as_posix()
            put_image(source.path, self._place.images / name, "link")
        else:
            stem = source.target.with_suffix("")
            name = (stem if frame.time is None else stem / f"{frame.index:06d}").as_posix() + ".jpg"
            write_image(self._place.images / name, frame.largest[0], _QUALITY)
        size = frame.image.width, frame.image.height
        self._images.append(labels_of_faces(self._place.images / name, name, size, looked.faces, 0.0))

    def end(self, source: Source) -> None:
        """The labels wait for all sources."""

    def finish(self, ending: Ending) -> None:
        """Write the labels."""
        kept, points, _ = held_by(self._format, self._images, self._points)
        self._format.write(self._place.labels, kept, points)


class LabelFormat:
    """A label format as a format of `--save`."""

    WHERE = "folder"
    USES = ()

    def __init__(self, name: str) -> None:
        self._name = name
        self.HELP = f"a labelled set in the format {name}, with its images: a new folder"

    def make(self, place: Place, wishes: Wishes) -> LabelledSet:
        """The output. Raises UsageError for a folder that holds something: labels would not fit what is there."""
        if place.path.is_dir() and any(place.path.iterdir()):
            raise UsageError(f"{place.path}: is there already", "name a new folder, or empty this one")
        return LabelledSet(self._name, place.path, wishes.rules["landmark_names"])


def label_format_names() -> list[str]:
    """The formats that are written."""
    return [name for name in format_names() if hasattr(format_module(name), "write")]
