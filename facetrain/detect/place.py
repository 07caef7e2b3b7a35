"""Where an output writes: a folder with a file for each source, or one file for the only one."""

from dataclasses import dataclass
from pathlib import Path

from facetrain.core.errors import InputError, UsageError
from facetrain.core.faces import Image
from facetrain.core.files import check_file, check_folder
from facetrain.core.images import write_image
from facetrain.media.clip_writer import CLIPS, ClipWriter, open_clip
from facetrain.media.find import WRITABLE
from facetrain.media.frame import Frame, Source


@dataclass(frozen=True)
class Place:
    """path: a folder, or with `one` the file of the only source."""

    path: Path
    one: bool

    @staticmethod
    def named(text: str, field: str) -> "Place":
        """A folder, or a file where the name ends as one of an image or a video does. Raises UsageError."""
        path = Path(text)
        one = path.suffix.lower() in WRITABLE | CLIPS and not path.is_dir()
        (check_file if one else check_folder)(path, field)
        return Place(path, one)

    def of(self, source: Source) -> Path:
        """Where the result for a source goes."""
        return self.path if self.one else self.path / source.target

    def check_sources(self, sources: int, what: str) -> None:
        """Raise UsageError where there is one file and several sources."""
        if self.one and sources > 1:
            raise UsageError(f"{what}={self.path}: one file for {sources} images or videos", "name a folder")

    def make(self) -> None:
        """Make the folder before the first image is read. Raises UsageError."""
        folder = self.path.parent if self.one else self.path
        if folder.is_file():
            raise InputError(f"{folder}: a file, not a folder for results", "choose another folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder}: cannot be made: {error.strerror}", "choose another folder") from error


class PixelFiles:
    """Images as image files, frames as videos, at a `Place`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._clip: ClipWriter | None = None

    def write(self, source: Source, frame: Frame, pixels: Image) -> None:
        """Write what was made of a frame. pixels: (H, W, 3) uint8 BGR. Raises OutputError or DataError."""
        if frame.time is None:
            write_image(self._place.of(source), pixels)
            return
        if self._clip is None:
            path = self._place.of(source)
            if path.suffix.lower() not in CLIPS and not self._place.one:
                path = path.with_suffix(".mp4")  # what looked like an image's address is a stream
            self._clip = open_clip(path, source, frame, pixels)
        self._clip.write(frame, pixels)

    def end(self) -> None:
        """The source is through: its video can be played."""
        clip, self._clip = self._clip, None
        if clip is not None:
            clip.close()
