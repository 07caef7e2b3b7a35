"""What looking at a frame gives, and what an output has to do with it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from facetrain.core.documents.common import Problem
from facetrain.core.documents.detect import DetectedImage, DetectRules
from facetrain.core.faces import Faces
from facetrain.detect.detector import Seen
from facetrain.media.frame import Frame, Source


@dataclass(frozen=True)
class Looked:
    """A frame that was looked at.

    seen:    what was found, of the scores that count
    faint:   the same faces and those of lower scores, for what has to miss none
    seconds: how long the search took
    """

    source: Source
    frame: Frame
    seen: Seen
    faint: Faces
    seconds: float

    @property
    def faces(self) -> Faces:
        """What was found, of the scores that count."""
        return self.seen.faces

    def as_dict(self) -> DetectedImage:
        """The frame's element in the JSON document."""
        image = self.frame.image
        found: DetectedImage = {"path": self.source.name}  # type: ignore[typeddict-item]  # the order is a reader's
        if self.frame.time is not None:
            found |= {"frame": self.frame.index, "time": round(float(self.frame.time), 6)}
        return found | {
            "width": image.width,
            "height": image.height,
            "scales": [round(scale, 6) for scale in self.seen.scales],
            "smallest_face": round(self.seen.smallest, 1),
            "faces": self.faces.as_dicts(),
        }


@dataclass(frozen=True)
class Wishes:
    """What was asked for beyond where results go; each output has its own use for some of it, see its `USES`.

    rules:     how faces were looked for
    depends:   all that JSON lines depend on besides, see `documents.detect.LinesHead`
    stdout:    takes text for standard output as it is
    margin:    how much is added to a face, as a part of its sides; None: as is usual for the output
    crop_size: pixels of a crop's side; None: as it is in the image
    align:     pixels of a crop's side whose eyes, nose and mouth stand where recognisers want them; None: not aligned
    shape:     what covers a face: ellipse or box
    feather:   how wide the edge of a cover is, as a part of the face's sides
    hold:      seconds that a cover stays before and after a face was found
    keep_exif: keep what a photograph says of itself, without its thumbnail
    resume:    go on behind what is there
    """

    rules: DetectRules
    stdout: Callable[[str], object]
    depends: dict[str, object] = field(default_factory=dict)
    resume: bool | None = None
    margin: float | None = None
    crop_size: int | None = None
    align: int | None = None
    shape: str | None = None
    feather: float | None = None
    hold: float | None = None
    keep_exif: bool | None = None


@dataclass(frozen=True)
class Ending:
    """How a call ended. skipped: paths that were no images; errors: of sources that failed."""

    skipped: list[str]
    interrupted: bool
    errors: list[Problem]


class Output(Protocol):
    """Something that is made of frames and their faces.

    any_order: whether still images may come in any order, and from several threads at a time
    waits:     whether `add` waits for somebody, whom Ctrl-C is to reach
    """

    any_order: bool
    waits: bool

    def add(self, looked: Looked) -> None:
        """Take one more frame. Raises OutputError or DataError; its source then has failed."""
        ...

    def end(self, source: Source) -> None:
        """A source is through, or broke off: finish what is made of it, if it was ever begun. Raises OutputError."""
        ...

    def finish(self, ending: Ending) -> None:
        """All sources are through. Raises OutputError."""
        ...
