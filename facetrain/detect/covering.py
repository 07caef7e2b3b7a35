"""Images and videos in which faces are covered: what blur, pixelate and black have in common.

All faces are covered that were found at all, also those of lower scores than count elsewhere.
"""

import math
from collections.abc import Iterable

from facetrain.core.errors import FacetrainError, UsageError
from facetrain.core.exif import exif_of, holds_exif, write_with_exif
from facetrain.core.images import write_image
from facetrain.detect.covers import MARGINS, Cover, Fill, cover_faces
from facetrain.detect.hold import Hold, Shot
from facetrain.detect.looked import Ending, Looked, Wishes
from facetrain.detect.place import PixelFiles, Place
from facetrain.media.frame import Source

WISHES = ("margin", "shape", "feather", "hold", "keep_exif")
HOLD = 0.5  # seconds
_LONGEST = 60.0  # seconds of frames in memory
_QUALITY = 95  # of JPEG: what is not covered stays as good as it was


class Covering:
    """Writes a covered image for each image, a covered video for each video."""

    any_order = True  # still images know of no other
    waits = False

    def __init__(self, place: Place, wishes: Wishes, fill: Fill) -> None:
        """Raises UsageError for wishes that mean nothing."""
        self._place = place
        self._files = PixelFiles(place)
        self._fill = fill
        self._cover = cover_of(wishes)
        self._seconds = _hold_of(wishes)
        self._hold = Hold(self._seconds)
        self._keep_exif = bool(wishes.keep_exif)

    def add(self, looked: Looked) -> None:
        """Cover the faces of an image, or of those frames of which it is known now what follows them."""
        pixels, factor = looked.frame.largest
        shot = Shot(looked.source, looked.frame, pixels, looked.faint.boxes / factor)
        if looked.frame.time is None:
            self._write_still(shot)
            return
        try:
            self._write(self._hold.add(shot))
        except FacetrainError:
            self._hold = Hold(self._seconds)  # what cannot be written is not tried again at the end
            raise

    def end(self, source: Source) -> None:
        """The source is through: what still waits is written."""
        hold, self._hold = self._hold, Hold(self._seconds)
        try:
            self._write(hold.end())
        finally:
            self._files.end()

    def finish(self, ending: Ending) -> None:
        """All is written already."""

    def _write(self, shots: Iterable[Shot]) -> None:
        for shot in shots:
            covered = cover_faces(shot.pixels, shot.boxes, self._cover, self._fill)
            self._files.write(shot.source, shot.frame, covered)

    def _write_still(self, shot: Shot) -> None:
        """Nothing but pixels goes into the file, unless EXIF is asked for."""
        covered = cover_faces(shot.pixels, shot.boxes, self._cover, self._fill)
        path, original = self._place.of(shot.source), shot.source.path
        exif = None
        if self._keep_exif and original is not None and original.is_file() and holds_exif(path):
            exif = exif_of(original)
        if exif is None:
            write_image(path, covered, _QUALITY)
        else:
            write_with_exif(path, covered, exif, _QUALITY)


def cover_of(wishes: Wishes) -> Cover:
    """What of a face is covered. Raises UsageError."""
    usual = Cover()
    shape = usual.shape if wishes.shape is None else wishes.shape
    margin = MARGINS.get(shape, usual.margin) if wishes.margin is None else wishes.margin
    return Cover(shape, margin, usual.feather if wishes.feather is None else wishes.feather)


def _hold_of(wishes: Wishes) -> float:
    """Seconds. Raises UsageError."""
    hold = HOLD if wishes.hold is None else wishes.hold
    if not (math.isfinite(hold) and 0 <= hold <= _LONGEST):
        raise UsageError(f"`hold` {hold:g}: must be from 0 to {_LONGEST:g}", "seconds such as 0.5; 0 holds nothing")
    return hold
