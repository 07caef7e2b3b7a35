"""The WIDER FACE benchmark: easy, medium and hard from one matching."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetrain.core.errors import DataError, InputError
from facetrain.core.faces import Faces, LabelledImage
from facetrain.eval.average_precision import Curve, curve, match
from facetrain.eval.prediction_files import Prediction
from facetrain.eval.wider_truth import SUBSETS, WiderTruth

_SHOWN = 5


@dataclass(frozen=True)
class WiderResult:
    """Curves of the three subsets and over how many pictures."""

    curves: Mapping[str, Curve]
    images: int

    @property
    def ap(self) -> dict[str, float | None]:
        """AP of each subset; None where no face of it is among the pictures."""
        return {name: curve.ap for name, curve in self.curves.items()}

    @property
    def mean_ap(self) -> float | None:
        """Mean of the subsets that have an AP: what chooses the best weights while training."""
        known = [ap for ap in self.ap.values() if ap is not None]
        return sum(known) / len(known) if known else None


def measure_widerface(predictions: Sequence[Prediction], truth: WiderTruth) -> WiderResult:
    """AP of predictions, one a picture of the truth in its order, by the official rules."""
    matches = match([(*p, boxes) for p, boxes in zip(predictions, truth.boxes, strict=True)])
    # pictures without boxes give no false alarms, though their scores take part in normalising
    skipped = np.array([len(boxes) == 0 for boxes in truth.boxes], bool)
    curves = {name: curve(matches, _joined(truth.counted[name]), skipped) for name in SUBSETS}
    return WiderResult(curves, len(truth.names))


def _joined(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    return np.concatenate(masks) if masks else np.zeros(0, bool)


def as_prediction(faces: Faces) -> Prediction:
    """Detections in the doubles that the evaluation wants."""
    return faces.boxes.astype(np.float64), faces.scores.astype(np.float64)


def picture_paths(root: Path, truth: WiderTruth, *, present_only: bool) -> tuple[WiderTruth, list[Path]]:
    """Where the truth's pictures lie below `root`. Raises InputError for missing ones, unless `present_only`."""
    folder = next((f for f in (root / "WIDER_val" / "images", root / "val" / "images", root) if f.is_dir()), None)
    if folder is None:
        raise InputError(f"{root}: no such folder", "`data` takes the folder that holds WIDER_val/images")
    paths = {name: folder / f"{name}.jpg" for name in truth.names}
    there = [name for name in truth.names if paths[name].is_file()]
    if not there:
        raise InputError(
            f"{folder}: none of the {len(paths):,} pictures is there, such as {truth.names[0]}.jpg",
            "`data` takes the folder that holds WIDER_val/images",
        )
    missing = len(paths) - len(there)
    if missing and not present_only:
        known = set(there)
        first = [name for name in truth.names if name not in known][:_SHOWN]
        raise InputError(
            f"{folder}: {missing:,} of {len(paths):,} pictures are missing, such as {', '.join(first)}",
            "`present_only` measures on the pictures that are there, which is another number than the published one",
        )
    truth = truth.restricted(there) if missing else truth
    return truth, [paths[name] for name in truth.names]


def as_labelled(truth: WiderTruth, paths: Sequence[Path], subset: str = "hard") -> list[LabelledImage]:
    """The truth as labels, faces that do not count in `subset` being ignored."""
    return [
        LabelledImage(path, name, None, boxes.astype(np.float32), np.zeros((len(boxes), 0, 3), np.float32), ~counted)
        for path, name, boxes, counted in zip(paths, truth.names, truth.boxes, truth.counted[subset], strict=True)
    ]


def first_error(found: Generator[Faces | DataError, None, None]) -> list[Faces]:
    """The detections, if every picture can be read. Raises the first error at once: a part is another number."""
    results = []
    with closing(found):  # ends its threads here, and not whenever the generator is collected
        for faces in found:
            if isinstance(faces, DataError):
                raise faces
            results.append(faces)
    return results
