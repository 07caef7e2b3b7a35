"""WIDER FACE AP of all subsets for 3,226 images with 200 detections each: facetrain against the literal program, and
with the intervals of 2,000 draws.

    python tests/benchmarks/ap_speed.py --data data/widerface

The literal program (tests/oracles) is timed on a part of the images and its time scaled up; it would take minutes.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from oracles.average_precision import Image, official

from facetrain.core.faces import Faces
from facetrain.core.machine import available_cores, cpu_name
from facetrain.eval.wider_face.benchmark import benchmark_of
from facetrain.eval.wider_face.ground_truth import find_ground_truth, load_ground_truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/widerface", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--literal-images", type=int, default=60)
    args = parser.parse_args()
    ground_truth = load_ground_truth(find_ground_truth(args.data))
    benchmark = benchmark_of(ground_truth, [Path(f"{name}.jpg") for name in ground_truth.names])
    rng = np.random.default_rng(0)
    found = []
    for boxes in ground_truth.boxes:
        near = boxes[rng.integers(0, len(boxes), 200)] + rng.normal(0, 3, (200, 4))
        found.append(Faces(near, np.sort(rng.random(200))[::-1], np.zeros((200, 0, 2))))
    alone, with_intervals = [], []
    for _ in range(args.rounds):
        began = time.perf_counter()
        scores = benchmark.score(found)
        ap = scores.ap
        alone.append(time.perf_counter() - began)
        scores.intervals(benchmark.resampling())
        with_intervals.append(time.perf_counter() - began)
    part = args.literal_images
    began = time.perf_counter()
    for masks in ground_truth.counted.values():
        images = [
            Image(
                np.column_stack([f.boxes[:, :2], f.boxes[:, 2:] - f.boxes[:, :2], f.scores]).tolist(),
                np.column_stack([b[:, :2], b[:, 2:] - b[:, :2]]).tolist(),
                m.tolist(),
            )
            for f, b, m in zip(found[:part], ground_truth.boxes[:part], masks[:part], strict=True)
        ]
        official(images, skip_empty=True)
    literal = (time.perf_counter() - began) * len(ground_truth.names) / part
    document = {
        "processor": cpu_name(),
        "cores": available_cores(),
        "ap": ap,
        "seconds": [round(value, 3) for value in alone],
        "median": round(statistics.median(alone), 3),
        "median_with_intervals": round(statistics.median(with_intervals), 3),
        "literal_estimate": round(literal, 1),
        "times_faster": round(literal / statistics.median(alone)),
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
