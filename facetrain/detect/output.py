"""What becomes of found faces: a drawn image, and one result per image."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from facetrain.core.documents.detect import DetectedImage
from facetrain.core.drawing import draw_faces
from facetrain.core.errors import DataError, FacetrainError, InputError, UsageError, about
from facetrain.core.faces import Detector, Faces
from facetrain.core.images import read_image, write_image
from facetrain.core.memory import no_memory_error
from facetrain.detect.sources import Failure, Source


@dataclass(frozen=True)
class ImageFaces:
    """The faces of one image file of (width, height), how long the search took, where the drawn image lies."""

    source: Source
    width: int
    height: int
    faces: Faces
    seconds: float
    drawn: bool = True

    def as_text(self) -> str:
        """The image's line: path, size, faces, best score, time, and the drawn file where it has another name."""
        faces = f"{len(self.faces)} face{'' if len(self.faces) == 1 else 's'}"
        best = f"best {self.faces.scores[0]:.2f}" if len(self.faces) else "best -"
        line = f"{self.source.path}  {self.width}x{self.height}  {faces}  {best}  {self.seconds * 1000:.0f} ms"
        renamed = self.drawn and self.source.target.name != self.source.path.name
        return f"{line}  drawn as {self.source.target}" if renamed else line

    def as_dict(self) -> DetectedImage:
        """The image's element in the JSON document."""
        return {
            "path": str(self.source.path),
            "width": self.width,
            "height": self.height,
            "faces": self.faces.as_dicts(),
        }


def detect_files(
    detector: Detector, sources: Sequence[Source], *, draw: bool = True, landmark_names: Sequence[str] = ()
) -> Iterator[ImageFaces | Failure]:
    """Read each image, find its faces, with `draw` write the drawn image; one image in memory at a time.

    An image that fails is given as a Failure, and the rest goes on.
    """
    for source in sources:
        try:
            with no_memory_error(str(source.path)):
                image = read_image(source.path)
                begun = time.perf_counter()
                faces = detector.detect_batch([image])[0]
                seconds = time.perf_counter() - begun
                height, width = image.shape[:2]
                if draw:
                    write_image(source.target, draw_faces(image, faces, landmark_names))
        except DataError as error:
            yield Failure(str(source.path), about(source.path, error))
        except FacetrainError as error:
            yield Failure(str(source.path), error)
        else:
            yield ImageFaces(source, width, height, faces, seconds, draw)


def make_output_folder(folder: Path) -> None:
    """Make the folder for results before the first image is read. Raises UsageError."""
    if folder.is_file():
        raise InputError(f"{folder}: a file, not a folder for results", "choose another `output`")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made: {error.strerror}", "choose another `output`") from error
