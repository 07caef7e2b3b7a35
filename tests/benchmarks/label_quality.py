"""How good the labels are that `data label` gives, on images that people have labelled: the table of label_images.md.

    python tests/benchmarks/label_quality.py WEIGHTS... [--flip] [--scales 1] [--data FOLDER] [--limit N]

Labels of WIDER FACE's validation images (all boxes of `labelv2.txt`) are the ground truth, by the matching of `eval`:
the best detection of a face with an IoU of 0.5 finds it. Recall goes by the labelled face's shorter side, precision by
the detection's. A face that nobody has labelled counts as a false label, so precision is a lower bound.
"""

import argparse
import os
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from facetrain.core.faces import Faces
from facetrain.core.images import read_image
from facetrain.data.layout import load_split
from facetrain.eval.benchmark import thin
from facetrain.eval.labelled import labelled_benchmark
from facetrain.eval.outcomes import above
from facetrain.label.look import Looks, Observers

EDGES = (0, 8, 16, 32, 64, 128, np.inf)
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
SHARED = Path(os.environ.get("FACETRAIN_REFERENCE") or Path(__file__).parents[3] / "shared")


def clipped(faces: Faces, width: int, height: int) -> Faces:
    """As labels are: cut off at the image's borders."""
    limit = np.array([width, height], np.float32)
    return Faces(np.clip(faces.boxes.reshape(-1, 2, 2), 0, limit).reshape(-1, 4), faces.scores, faces.landmarks)


def sizes(boxes: np.ndarray) -> np.ndarray:
    """(N,) shorter sides."""
    return (boxes[:, 2:] - boxes[:, :2]).min(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", nargs="+")
    parser.add_argument("--flip", action="store_true")
    parser.add_argument("--scales", default="1")
    parser.add_argument("--data", type=Path, default=SHARED / "widerface")
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    looks = Looks(score=min(THRESHOLDS), flip=arguments.flip, scales=tuple(map(float, arguments.scales.split(","))))
    observers = Observers(arguments.weights, looks, threads=1)
    images = thin(load_split(arguments.data, "val", ()).images, arguments.limit)
    begun, found = time.process_time(), []
    for number, image in enumerate(images, 1):
        pixels = read_image(image.path)
        [faces] = observers.detect_batch([pixels])
        found.append(clipped(faces, pixels.shape[1], pixels.shape[0]))
        print(f"\r{number}/{len(images)}", end="", file=sys.stderr)
    seconds = time.process_time() - begun
    scores = labelled_benchmark(images).score(found)
    bands = [f"{low}–{high}" if high < np.inf else f"{low}+" for low, high in pairwise(EDGES)]
    print(
        f"\n{' + '.join(arguments.weights)}, flip {arguments.flip}, scales {arguments.scales}: {len(images)} images, "
    )
    print(f"{sum(len(image.boxes) for image in images)} faces, {seconds / len(images):.2f} s of a processor an image\n")
    print(f"| score | | all | {' | '.join(bands)} |")
    print("| ---: | --- |" + " ---: |" * (len(bands) + 1))
    for threshold in THRESHOLDS:
        results = [above(o, f, threshold) for o, f in zip(scores.outcomes, found, strict=True)]
        ground_truth = np.concatenate([sizes(i.boxes) for i in images])
        hit = np.concatenate([r.found for r in results])
        side = np.concatenate([sizes(f.boxes) for f in found])
        right = np.concatenate([r.true for r in results])
        wrong = np.concatenate([r.false for r in results])
        precision, recall = [], []
        for low, high in [(0, np.inf), *pairwise(EDGES)]:
            inside, seen = (ground_truth >= low) & (ground_truth < high), (side >= low) & (side < high)
            recall.append(f"{hit[inside].mean():.3f}" if inside.any() else "–")
            labels = (right | wrong) & seen
            precision.append(f"{right[seen].sum() / labels.sum():.3f}" if labels.any() else "–")
        print(f"| {threshold} | precision | {' | '.join(precision)} |")
        print(f"| | recall | {' | '.join(recall)} |")


if __name__ == "__main__":
    main()
