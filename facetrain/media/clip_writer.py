"""Moving images as files: which writer a path asks for."""

from pathlib import Path
from typing import Protocol

from facetrain.core.errors import UsageError
from facetrain.core.faces import Image
from facetrain.media import animation_writer, video_writer
from facetrain.media.frame import Frame, Source

CLIPS = frozenset(video_writer.CONTAINERS) | animation_writer.SUFFIXES


class ClipWriter(Protocol):
    """A moving image that is being written."""

    def write(self, frame: Frame, pixels: Image) -> None:
        """One more frame, with the time of `frame`. pixels: (H, W, 3) uint8 BGR. Raises OutputError."""
        ...

    def close(self) -> None:
        """No frame follows: what is there can be played. Raises OutputError."""
        ...


def open_clip(path: Path, source: Source, first: Frame, pixels: Image) -> ClipWriter:
    """Begin to write what is made of a source, in the format that the path's suffix says; `first` is not written yet.

    The first frame stands at 0, all others as long after it as in the source, also where frames are left out. The
    sound of a video file is kept as far as the frames go. Nothing that the file says of itself is taken over: places,
    devices, names.

    pixels: (H, W, 3) uint8 BGR, made of the first frame; frames of another size are fitted into its own
    Raises OutputError, and UsageError for a suffix that no moving image has.
    """
    suffix = path.suffix.lower()
    if suffix in video_writer.CONTAINERS:
        return video_writer.VideoWriter(path, source, first, pixels)
    if suffix in animation_writer.SUFFIXES:
        return animation_writer.AnimationWriter(path, source, first, pixels)
    raise UsageError(f"{path}: not the name of a video, which {source.name} is", f"known: {' '.join(sorted(CLIPS))}")
