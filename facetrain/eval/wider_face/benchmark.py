"""The WIDER FACE benchmark: easy, medium and hard of the images that are there."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facetrain.core.errors import InputError
from facetrain.core.faces import LabelledImage
from facetrain.eval.benchmark import Benchmark
from facetrain.eval.wider_face.ground_truth import WiderGroundTruth

_SHOWN = 5


def widerface_benchmark(ground_truth: WiderGroundTruth, paths: Sequence[Path]) -> Benchmark:
    """Easy, medium and hard of the ground truth's images, which lie at `paths`; the events are the strata."""
    counted = {subset: np.concatenate([np.zeros(0, bool), *masks]) for subset, masks in ground_truth.counted.items()}
    strata = [name.partition("/")[0] for name in ground_truth.names]
    return Benchmark("widerface", as_labelled(ground_truth, paths), counted, strata, skip_empty=True)


def image_paths(
    root: Path, ground_truth: WiderGroundTruth, *, present_only: bool
) -> tuple[WiderGroundTruth, list[Path]]:
    """Where the ground truth's images lie below `root`. Raises InputError for missing ones, unless `present_only`."""
    folder = next((f for f in (root / "WIDER_val" / "images", root / "val" / "images", root) if f.is_dir()), None)
    if folder is None:
        raise InputError(f"{root}: no such folder", "`data` takes the folder that holds WIDER_val/images")
    paths = {name: folder / f"{name}.jpg" for name in ground_truth.names}
    there = [name for name in ground_truth.names if paths[name].is_file()]
    if not there:
        raise InputError(
            f"{folder}: none of the {len(paths):,} images is there, such as {ground_truth.names[0]}.jpg",
            "`data` takes the folder that holds WIDER_val/images",
        )
    missing = len(paths) - len(there)
    if missing and not present_only:
        known = set(there)
        first = [name for name in ground_truth.names if name not in known][:_SHOWN]
        raise InputError(
            f"{folder}: {missing:,} of {len(paths):,} images are missing, such as {', '.join(first)}",
            "`present_only` measures on the images that are there, which is another number than the published one",
        )
    ground_truth = ground_truth.restricted(there) if missing else ground_truth
    return ground_truth, [paths[name] for name in ground_truth.names]


def as_labelled(ground_truth: WiderGroundTruth, paths: Sequence[Path], subset: str = "hard") -> list[LabelledImage]:
    """The ground truth as labels, faces that do not count in `subset` being ignored."""
    return [
        LabelledImage(path, name, None, boxes, np.zeros((len(boxes), 0, 3), np.float32), ~counted)
        for path, name, boxes, counted in zip(
            paths, ground_truth.names, ground_truth.boxes, ground_truth.counted[subset], strict=True
        )
    ]
