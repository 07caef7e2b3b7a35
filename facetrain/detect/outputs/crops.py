"""Each face as an image of its own."""

from pathlib import Path

from facetrain.core.align import alignment, cut_out, square_of, template_columns, warped
from facetrain.core.errors import UsageError
from facetrain.core.faces import Floats, Image
from facetrain.core.images import write_image
from facetrain.detect.looked import Ending, Looked, Wishes
from facetrain.detect.place import Place
from facetrain.media.frame import Source

HELP = "each face as an image of its own: a folder"
WHERE = "folder"
USES = ("margin", "crop_size", "align")
MARGIN = 0.3
_QUALITY = 95  # of JPEG; recognisers look at what is left


class Crops:
    """Writes `<name>-1.jpg`, `-2` …, best first; of moving sources `<name>/<frame>-1.jpg`, by number where followed."""

    any_order = True
    waits = False

    def __init__(self, folder: Path, wishes: Wishes) -> None:
        self._folder = folder
        self._margin = MARGIN if wishes.margin is None else wishes.margin
        self._side = wishes.align or wishes.crop_size
        self._columns = template_columns(wishes.rules["landmark_names"]) if wishes.align is not None else None

    def add(self, looked: Looked) -> None:
        """Cut out the faces of a frame."""
        if not len(looked.faces):
            return
        faces = looked.faces
        pixels, factor = looked.frame.largest
        target = looked.source.target
        stem = self._folder / target.parent / target.stem
        first = f"{stem}-" if looked.frame.time is None else f"{stem / f'{looked.frame.index:06d}'}-"
        for place in range(len(faces)):
            crop = self._crop(pixels, faces.boxes[place] / factor, faces.landmarks[place] / factor)
            tracked = faces.ids is not None and faces.ids[place] >= 0
            number = int(faces.ids[place]) if tracked and faces.ids is not None else place + 1
            if crop is not None:
                write_image(Path(f"{first}{'id' if tracked else ''}{number}.jpg"), crop, _QUALITY)

    def _crop(self, image: Image, box: Floats, points: Floats) -> Image | None:
        if self._side is None:
            return cut_out(image, box, self._margin)
        affine = None if self._columns is None else alignment(points[self._columns], self._side)
        if self._columns is None:
            affine = square_of(box, self._margin, self._side)
        return None if affine is None else warped(image, affine, self._side)

    def end(self, source: Source) -> None:
        """All is written already."""

    def finish(self, ending: Ending) -> None:
        """All is written already."""


def make(place: Place, wishes: Wishes) -> Crops:
    """The output. Raises UsageError for sizes that mean nothing, and for weights without the landmarks to align by."""
    if wishes.align is not None and (wishes.crop_size is not None or wishes.margin is not None):
        other = "crop_size" if wishes.crop_size is not None else "margin"
        raise UsageError(
            f"`align` and `{other}` exclude each other", "align says what a crop shows, and how large it is"
        )
    for field in ("crop_size", "align"):
        side = getattr(wishes, field)
        if side is not None and not 8 <= side <= 4096:
            raise UsageError(f"`{field}` {side}: must be from 8 to 4096 pixels")
    return Crops(place.path, wishes)
