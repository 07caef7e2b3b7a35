"""facetrain's own exports with the decoding inside, told by the `form` in their metadata.

`decoded`: one output (F, 6 + 2L), best first, threshold and suppression behind it already: the image's number,
x1 y1 x2 y2, score, landmarks x y. `rows`: one output (1, P, 5 + 2L), every prior of a fixed size: x1 y1 x2 y2, score,
landmarks. The image goes in as YuNet's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from facetrain.core.faces import Faces, Floats, Image
from facetrain.detect.decoding import cell_count, image_blob, shaped, single, stored_strides

NAME = "facetrain_decoded"
_START = {"decoded": 1, "rows": 0}  # column where the box begins


@dataclass(frozen=True)
class Decoded:
    """One file: its output, the column where the box begins, the columns of all, and the strides (pixels) behind it."""

    output: str
    start: int
    columns: int
    strides: tuple[int, ...]

    def prepare(self, image: Image, size: tuple[int, int] | None) -> Floats:
        """BGR, 0 to 255."""
        return image_blob(image, size, max(self.strides))

    def faces(self, outputs: Mapping[str, Floats], width: int, height: int, score: float) -> Faces:
        """Boxes of at least `score` among those that the file lets through."""
        value = outputs[self.output]
        count = value.shape[-2] if self.start else _priors(self.strides, width, height)
        rows = shaped(outputs, self.output, count, self.columns)
        found = rows[rows[:, self.start + 4] >= score, self.start :]
        landmarks = found[:, 5:].reshape(len(found), (self.columns - self.start - 5) // 2, 2)
        return Faces(found[:, :4], found[:, 4], landmarks)


def recognise(outputs: Mapping[str, Floats], width: int, height: int, metadata: Mapping[str, str]) -> Decoded | None:
    """One of facetrain's decoded forms if the metadata says so and the output fits, else None."""
    form, strides = metadata.get("form", ""), stored_strides(metadata)
    if len(outputs) != 1 or form not in _START or not strides:
        return None
    ((name, value),) = outputs.items()
    rows, start = single(value, 2), _START[form]
    if rows is None or rows.shape[1] < start + 5 or (rows.shape[1] - start - 5) % 2:
        return None
    if form == "rows" and len(rows) != _priors(strides, width, height):
        return None
    return Decoded(name, start, rows.shape[1], tuple(strides))


def own_threshold(metadata: Mapping[str, str]) -> float:
    """The score below which a decoded file drops faces itself; 0 for what has no such threshold."""
    try:
        score = float(metadata["score_threshold"]) if metadata.get("form") == "decoded" else 0.0
    except (KeyError, ValueError):
        return 0.0
    return score if 0 <= score <= 1 else 0.0


def _priors(strides: Sequence[int], width: int, height: int) -> int:
    return sum(cell_count(width, height, stride) for stride in strides)
