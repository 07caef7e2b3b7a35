"""Training crops of some images as the network would see them, a row for each image and a column for each epoch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from facetrain.config.schema import DataConfig
from facetrain.core.errors import DataError
from facetrain.core.faces import LabelledImage
from facetrain.data.batch_sheet import draw_batch
from facetrain.data.batches import make_batch
from facetrain.data.crops import draw_crop
from facetrain.data.store.open import open_store

_IMAGES, _EPOCHS = 6, 6


def draw_crops_sheet(
    path: Path, images: Sequence[LabelledImage], names: Sequence[str], config: DataConfig, seed: int
) -> list[str]:
    """Write the sheet; the names of its images, from above. Landmarks are exchanged in mirrored crops by their names.

    Those images are shown that have a face that counts, evenly over the set; what cannot be decoded is left out.
    """
    useful = [image for image in images if (~image.ignore).any() and image.path.is_file() and image.size is not None]
    picked = np.linspace(0, len(useful) - 1, min(_IMAGES, len(useful))).round().astype(int)
    try:
        store, _ = open_store([useful[i] for i in picked], "ram", None, torch.device("cpu"), 1.0)
    except DataError:  # none of them can be used
        return []
    try:
        shown = len(store.images)
        crops = [
            draw_crop(store.images[number], number, config, seed, epoch, number)
            for number in range(shown)
            for epoch in range(_EPOCHS)
        ]
        if crops:
            draw_batch(make_batch(store, crops, config, _mirror(names)), tuple(names), path, columns=_EPOCHS)
        return [image.name for image in store.images] if crops else []
    finally:
        store.close()


def _mirror(names: Sequence[str]) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """(L,) the landmark that takes each one's place in a mirrored crop, by right and left in the names."""
    swapped = {"right": "left", "left": "right"}
    partners = []
    for name in names:
        other = name
        for word, opposite in swapped.items():
            if word in name.lower():
                other = name.lower().replace(word, opposite)
                break
        lowered = [one.lower() for one in names]
        partners.append(lowered.index(other) if other in lowered else names.index(name))
    return np.array(partners, np.int64)
