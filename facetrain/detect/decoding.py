"""What detector families share: images as network input, grids of priors, SSD's box code, outputs in known shapes.

Everything works on the few priors that passed the threshold, given by their index: decoding all of them would cost
more than many of these networks. N is their number. Coordinates are pixels of the network's input.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetrain.core.boxes import padded_size
from facetrain.core.faces import Faces, Floats, Image

LARGEST_STRIDE = 1024  # images are padded to a multiple of it: a file must not ask for more than memory holds
Indices = NDArray[np.intp]


def image_blob(
    image: Image,
    size: tuple[int, int] | None,
    multiple: int,
    *,
    rgb: bool = False,
    mean: float | Sequence[float] = 0.0,
    scale: float = 1.0,
) -> Floats:
    """(H, W, 3) uint8 BGR as (1, 3, h, w) float32: (value - mean) * scale, with black at the right and the bottom.

    size: (w, h); None: the next multiples of `multiple`. mean: of each channel, in the order that comes out.
    """
    height, width = image.shape[:2]
    w, h = size or padded_size(width, height, multiple)
    blob = np.zeros((1, 3, h, w), np.float32)
    blob[0, :, :height, :width] = (image[..., ::-1] if rgb else image).transpose(2, 0, 1)
    shift = np.asarray(mean, np.float32).reshape(-1, 1, 1)
    if shift.any():
        blob -= shift
    if scale != 1:
        blob *= np.float32(scale)
    return blob


def single(value: Floats, rank: int) -> Floats | None:
    """The output of one image with that many axes, a leading batch axis of 1 dropped; None where it has others."""
    if value.ndim == rank + 1 and value.shape[0] == 1:
        value = value.reshape(value.shape[1:])
    return value if value.ndim == rank else None


def all_single(outputs: Mapping[str, Floats], rank: int) -> dict[str, Floats]:
    """`single` of each output; nothing at all unless all have that rank."""
    found = {name: single(value, rank) for name, value in outputs.items()}
    kept = {name: value for name, value in found.items() if value is not None}
    return kept if len(kept) == len(found) else {}


def by_columns(outputs: Mapping[str, Floats], *columns: int) -> list[str]:
    """Names of the outputs (P, columns), one for each number given; empty unless these are all, with one P."""
    shapes = {value.shape: name for name, value in all_single(outputs, 2).items()}
    names = [name for wanted in columns for shape, name in shapes.items() if shape[1] == wanted]
    same = len({shape[0] for shape in shapes}) == 1
    return names if same and len(names) == len(columns) == len(outputs) else []


def shaped(outputs: Mapping[str, Floats], name: str, *shape: int) -> Floats:
    """The output as an array of that shape, a leading batch axis of 1 dropped. Raises ValueError where it is not."""
    value = single(outputs[name], len(shape))
    if value is None or value.shape != shape:
        raise ValueError(f"{name} is {list(outputs[name].shape)} and should be {list(shape)}")
    return value


def sigmoid(logits: Floats) -> Floats:
    """The logistic function."""
    with np.errstate(over="ignore"):  # exp of a very negative logit is endless, and its score 0 as it should be
        result: Floats = np.divide(1, 1 + np.exp(-logits), dtype=np.float32)
    return result


def are_logits(pair: Floats) -> bool:
    """Whether (P, 2) class numbers are still before the softmax: after it each pair has the sum 1."""
    return not np.allclose(pair.sum(1), 1, atol=0.01)


def face_score(pair: Floats, *, logits: bool) -> Floats:
    """The second of two classes' probability, (P,), of pairs (P, 2) before or after the softmax."""
    return sigmoid(pair[:, 1] - pair[:, 0]) if logits else pair[:, 1]


def stored_strides(metadata: Mapping[str, str]) -> list[int]:
    """The strides that facetrain stores in its files; none where a file says nothing usable."""
    strides = [int(number[:9]) for number in re.findall(r"\d+", metadata.get("strides", ""))]
    return strides if all(1 <= stride <= LARGEST_STRIDE for stride in strides) else []


def cell_count(width: int, height: int, stride: int) -> int:
    """Cells of a stride, those counted too that reach over the border."""
    return -(-width // stride) * -(-height // stride)


def cell_of(index: Indices, columns: int) -> Floats:
    """(N, 2): column and row of cells that are numbered row by row."""
    row, column = np.divmod(index, columns)
    return np.stack([column, row], 1).astype(np.float32)


@dataclass(frozen=True)
class Grid:
    """Priors of one stride, row by row, those of one cell in a run.

    step: pixels from cell to cell, x and y
    cell: (x, y, side) of each prior in a cell: its centre in cells, from the cell's corner, and its side in pixels
    """

    columns: int
    rows: int
    step: tuple[float, float]
    cell: tuple[tuple[float, float, float], ...]

    def __len__(self) -> int:
        return self.columns * self.rows * len(self.cell)


def square_grid(width: int, height: int, stride: int, *sides: float) -> Grid:
    """A grid whose priors, one for each side, stand at the middle of each cell."""
    cell = tuple((0.5, 0.5, side) for side in sides)
    return Grid(math.ceil(width / stride), math.ceil(height / stride), (stride, stride), cell)


def prior_count(grids: Sequence[Grid]) -> int:
    """Priors of all grids."""
    return sum(len(grid) for grid in grids)


def priors_at(grids: Sequence[Grid], index: Indices) -> tuple[Floats, Floats]:
    """Centres (N, 2) and sides (N, 1) of the priors with these numbers, counted grid after grid."""
    centres, sides = np.zeros((len(index), 2), np.float32), np.zeros((len(index), 1), np.float32)
    start = 0
    for grid in grids:
        here = (index >= start) & (index < start + len(grid))
        cell, kind = np.divmod(index[here] - start, len(grid.cell))
        inside = np.array(grid.cell, np.float32)[kind]  # (n, 3)
        centres[here] = (cell_of(cell, grid.columns) + inside[:, :2]) * np.array(grid.step, np.float32)
        sides[here] = inside[:, 2:]
        start += len(grid)
    return centres, sides


def decode_ssd(centres: Floats, sides: Floats, offsets: Floats) -> Floats:
    """Boxes (N, 4) xyxy of offsets (N, 4) from priors. centres: (N, 2); sides: (N, 1), or (N, 2) of width, height."""
    middle = centres + 0.1 * offsets[:, :2] * sides
    half = np.exp(0.2 * offsets[:, 2:]) * sides / 2
    boxes: Floats = np.concatenate([middle - half, middle + half], 1).astype(np.float32)
    return boxes


def decode_ssd_points(centres: Floats, sides: Floats, offsets: Floats) -> Floats:
    """Landmarks (N, L, 2) of offsets (N, 2L) from priors."""
    pairs = offsets.reshape(len(offsets), offsets.shape[1] // 2, 2)
    points: Floats = (centres[:, None] + 0.1 * pairs * sides[:, None]).astype(np.float32)
    return points


def centred_boxes(numbers: Floats) -> Floats:
    """Boxes (N, 4) xyxy of (N, 4) centre and size."""
    half = numbers[:, 2:] / 2
    boxes: Floats = np.concatenate([numbers[:, :2] - half, numbers[:, :2] + half], 1)
    return boxes


def without_landmarks(boxes: Floats, scores: Floats) -> Faces:
    """Faces of a family that has boxes alone."""
    return Faces(boxes, scores, np.zeros((len(scores), 0, 2), np.float32))


def joined_faces(parts: Sequence[Faces]) -> Faces:
    """The faces of all levels, one level after the other."""
    return Faces(
        np.concatenate([faces.boxes for faces in parts]),
        np.concatenate([faces.scores for faces in parts]),
        np.concatenate([faces.landmarks for faces in parts]),
    )


def ssd_faces(
    outputs: Mapping[str, Floats], loc: str, conf: str, grids: Sequence[Grid], *, logits: bool, score: float
) -> Faces:
    """Faces without landmarks of an SSD with outputs loc (P, 4) and conf (P, 2), those that score at least `score`."""
    count = prior_count(grids)
    scores = face_score(shaped(outputs, conf, count, 2), logits=logits)
    passed = np.flatnonzero(scores >= score)
    boxes = decode_ssd(*priors_at(grids, passed), shaped(outputs, loc, count, 4)[passed])
    return without_landmarks(boxes, scores[passed])
