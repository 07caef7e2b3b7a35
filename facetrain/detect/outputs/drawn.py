"""Images and videos with boxes, scores and landmarks drawn into them."""

from facetrain.core.drawing import draw_faces
from facetrain.core.faces import Faces
from facetrain.detect.looked import Ending, Looked, Wishes
from facetrain.detect.place import PixelFiles, Place
from facetrain.media.frame import Source

HELP = "boxes, scores and landmarks drawn: a folder, or one image or video"
WHERE = "pixels"
USES = ()


class Drawn:
    """Writes a drawn image for each image, a drawn video for each video."""

    any_order = True
    waits = False

    def __init__(self, place: Place, wishes: Wishes) -> None:
        self._files = PixelFiles(place)
        self._names = wishes.rules["landmark_names"]

    def add(self, looked: Looked) -> None:
        """Draw, at the original's size, or as it was decoded where the original is too large for that."""
        pixels, factor = looked.frame.largest
        faces = looked.faces
        if factor > 1:
            faces = Faces(faces.boxes / factor, faces.scores, faces.landmarks / factor, faces.ids)
        self._files.write(looked.source, looked.frame, draw_faces(pixels, faces, self._names))

    def end(self, source: Source) -> None:
        """The source's video is whole."""
        self._files.end()

    def finish(self, ending: Ending) -> None:
        """All is written already."""


def make(place: Place, wishes: Wishes) -> Drawn:
    """The output."""
    return Drawn(place, wishes)
