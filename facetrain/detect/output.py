"""What becomes of found faces: a drawn image, and one result per image."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from facetrain.core.documents.detect import DetectedImage
from facetrain.core.drawing import draw_faces
from facetrain.core.errors import DataError, FacetrainError, InputError, UsageError, about
from facetrain.core.faces import Faces
from facetrain.core.images import MAX_PIXELS, Reduced, read_image, write_image
from facetrain.core.memory import no_memory_error
from facetrain.detect.detector import FaceDetector, Seen
from facetrain.detect.sources import Failure, Source


@dataclass(frozen=True)
class ImageFaces:
    """The faces of one image file of (width, height), how long the search took, where the drawn image lies."""

    source: Source
    width: int
    height: int
    seen: Seen
    seconds: float
    drawn: bool = True

    @property
    def faces(self) -> Faces:
        """What was found."""
        return self.seen.faces

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
            "scales": [round(scale, 6) for scale in self.seen.scales],
            "smallest_face": round(self.seen.smallest, 1),
            "faces": self.faces.as_dicts(),
        }


def detect_files(
    detector: FaceDetector, sources: Sequence[Source], *, draw: bool = True
) -> Iterator[ImageFaces | Failure]:
    """Read each image, find its faces, with `draw` write the drawn image; one image in memory at a time.

    An image that fails is given as a Failure, and the rest goes on.
    """
    for source in sources:
        try:
            with no_memory_error(str(source.path)):
                image = detector.open(source.path)
                begun = time.perf_counter()
                seen = detector.look(image)
                seconds = time.perf_counter() - begun
                if draw:
                    _draw(source, image, seen.faces, detector.landmark_names)
        except DataError as error:
            yield Failure(str(source.path), about(source.path, error))
        except FacetrainError as error:
            yield Failure(str(source.path), error)
        else:
            yield ImageFaces(source, image.width, image.height, seen, seconds, draw)


def _draw(source: Source, image: Reduced, faces: Faces, landmark_names: Sequence[str]) -> None:
    """Write the drawn image: at the original's size, or as it was decoded where the original is too large for that."""
    pixels = image.image
    if image.factor > 1 and image.width * image.height <= MAX_PIXELS:
        pixels = read_image(source.path)
    elif image.factor > 1:
        faces = Faces(faces.boxes / image.factor, faces.scores, faces.landmarks / image.factor)
    write_image(source.target, draw_faces(pixels, faces, landmark_names))


def make_output_folder(folder: Path) -> None:
    """Make the folder for results before the first image is read. Raises UsageError."""
    if folder.is_file():
        raise InputError(f"{folder}: a file, not a folder for results", "choose another `output`")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made: {error.strerror}", "choose another `output`") from error
