"""The WIDER FACE benchmark: easy, medium and hard of the images that are there."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facetrain.core.errors import InputError
from facetrain.core.faces import LabelledImage
from facetrain.eval.benchmark import OFFICIAL, Benchmark
from facetrain.eval.wider_face.ground_truth import (
    WiderGroundTruth,
    find_ground_truth,
    has_ground_truth,
    load_ground_truth,
)

_SHOWN = 5


def widerface_benchmark(
    root: Path, ground_truth: Path | None = None, *, present_only: bool = False, needed: bool = True
) -> Benchmark:
    """Easy, medium and hard of the images below `root`; the events are the strata.

    ground_truth: where the official files are looked for; None: below `root`
    present_only: the images that are there alone
    needed:       whether the images themselves will be looked at

    Raises InputError for what is missing, DataError for what is damaged.
    """
    known = load_ground_truth(find_ground_truth(ground_truth or root))
    if needed or present_only:
        known, paths = _image_paths(root, known, present_only=present_only)
    else:
        paths = [root / "WIDER_val" / "images" / f"{name}.jpg" for name in known.names]
    return benchmark_of(known, paths)


def official_benchmark(root: Path) -> Benchmark | None:
    """WIDER FACE's, of the images that are there, where its ground truth lies below `root`; else None.

    The one place that chooses between the official benchmark and the labels of a set where nobody has said which.
    """
    return widerface_benchmark(root, present_only=True) if has_ground_truth(root) else None


def benchmark_of(ground_truth: WiderGroundTruth, paths: Sequence[Path]) -> Benchmark:
    """The ground truth with its images at `paths`. What does not count in hard is ignored where no subset is named."""
    parts = {subset: np.concatenate([np.zeros(0, bool), *masks]) for subset, masks in ground_truth.counted.items()}
    images = [
        LabelledImage(path, name, None, boxes, np.zeros((len(boxes), 0, 3), np.float32), ~hard)
        for path, name, boxes, hard in zip(
            paths, ground_truth.names, ground_truth.boxes, ground_truth.counted["hard"], strict=True
        )
    ]
    strata = [name.partition("/")[0] for name in ground_truth.names]
    return Benchmark(OFFICIAL, images, parts, strata, skip_empty=True)


def _image_paths(
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
