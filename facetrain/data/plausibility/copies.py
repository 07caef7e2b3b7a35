"""The same image in two files: by what it looks like, whatever its size, format and quality are.

A look is a difference hash: of the image reduced to 17 x 16 grey pixels, which of two neighbours is brighter, 256 bits.
Of WIDER FACE's 2,971 and 400 images no two differ in fewer than 47 bits; an image that was saved again, smaller or
worse, differs from itself in a few.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetrain.core.images import opencv, read_small

SAME = 28  # bits of 256 in which two looks of one image may differ
_SIDE = 16
_FLAT = 3.0  # grey levels: an image that varies less looks like any other
_ROWS = 2048  # looks that are compared with all others at once


def look_of_file(path: Path) -> bytes:
    """What an image looks like, 32 bytes; none of an image without anything in it. Raises DataError."""
    return look_of_grey(read_small(path, 4 * _SIDE))


def look_of_grey(grey: NDArray[np.uint8]) -> bytes:
    """The look of grey pixels (h, w)."""
    small = opencv().resize(grey, (_SIDE + 1, _SIDE), interpolation=opencv().INTER_AREA)
    if float(small.std()) < _FLAT:
        return b""
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes()


def same_images(looks: Sequence[bytes], others: Sequence[bytes] | None = None) -> list[tuple[int, int]]:
    """Pairs of indices whose looks are the same: between two lists, or within one (the first index is the smaller)."""
    one, rows = _signs(looks)
    two, columns = (one, rows) if others is None else _signs(others)
    pairs = []
    for start in range(0, len(one), _ROWS):
        # of two vectors of ±1 the product counts equal signs less different ones
        apart = (one.shape[1] - one[start : start + _ROWS] @ two.T) / 2
        for i, j in np.argwhere(apart <= SAME).tolist():
            if others is not None or start + i < j:
                pairs.append((int(rows[start + i]), int(columns[j])))
    return pairs


def _signs(looks: Sequence[bytes]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Looks as (N, 256) of ±1, and where in the list they stand: those that are none are left out."""
    bits = _SIDE * _SIDE
    there = np.array([i for i, look in enumerate(looks) if len(look) * 8 == bits], np.int64)
    packed = np.frombuffer(b"".join(looks[i] for i in there), np.uint8).reshape(len(there), bits // 8)
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1, there
