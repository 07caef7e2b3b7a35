"""Images that an exported model is tried on."""

from pathlib import Path

from facetrain.core.errors import InputError
from facetrain.core.faces import Image
from facetrain.core.images import SUFFIXES, read_image
from facetrain.core.plots import load_matplotlib
from facetrain.core.suggest import path_hint
from facetrain.data.sample_set.make import draw_image

_MOST = 20
_DRAWN = (1, 3, 9, 14)  # of the sample set's validation part: large and small faces, upright and lying


def check_images(folder: Path | None = None) -> list[Image]:
    """The images of a folder, at most 20; without one a photograph that comes with matplotlib, and drawn ones.

    (H, W, 3) uint8 BGR each. Raises InputError where the folder has none.
    """
    if folder is None:
        photograph = Path(load_matplotlib().get_data_path()) / "sample_data" / "grace_hopper.jpg"
        photographs = [read_image(photograph)] if photograph.is_file() else []
        return [*photographs, *(draw_image(0, 1, index)[0] for index in _DRAWN)]
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", path_hint(folder, "give a folder of images to check with"))
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise InputError(f"{folder}: no image in it", f"taken are: {' '.join(SUFFIXES)}")
    return [read_image(path) for path in paths[:_MOST]]
