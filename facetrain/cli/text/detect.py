"""What `facetrain detect` says at its end."""

import math
from collections.abc import Sequence
from pathlib import Path

from facetrain.core.words import count
from facetrain.detect.views import AUTO


def summary_text(images: int, faces: int, folder: Path | None, failed: int, left: int | None) -> str:
    """One line. folder: where images were drawn; left: how many were not looked at, where it was interrupted."""
    text = f"{count(faces, 'face')} in {count(images, 'image')}"
    text += f", drawn in {folder}" if images and folder is not None else ""
    text += f"; {failed} failed" if failed else ""
    return text if left is None else f"{text}; interrupted, {left} not looked at"


def sought_text(smallest: Sequence[float], sides: Sequence[int], size: str, min_face: float | None) -> str:
    """What was looked for, in one line.

    smallest: the smallest face of each image, pixels; sides: its shorter side; size: how the images were shown
    """
    low, high = math.ceil(min(smallest)), math.ceil(max(smallest))
    sizes = f"{low} px" if low == high else f"{low} to {high} px, by the image's size,"
    text = f"looked for faces of {sizes} and more"
    if size != AUTO:
        return f"{text}, in one look; --size auto looks for all sizes"
    if min_face is None:
        return text + (f"; --min-face {max(low // 2, 4)} looks closer" if low > 4 else "")
    if low > min_face:
        text += f", and not of {min_face:g}: no image shows more at more than twice its size"
    small = sum(side < min_face for side in sides)
    return text + (f"; {count(small, 'image')} smaller than --min-face {min_face:g}" if small else "")
