"""WIDER FACE AP of all subsets for 3,226 pictures with 200 detections each: facetrain against the literal program.

    python tests/benchmarks/ap_speed.py --data data/widerface

The literal program (tests/oracles) is timed on a part of the pictures and its time scaled up; it would take minutes.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from oracles.average_precision import average_precision

from facetrain.core.hardware import available_cores, cpu_name
from facetrain.eval.wider_truth import find_truth, load_truth
from facetrain.eval.widerface import measure_widerface


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/widerface", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--literal-pictures", type=int, default=60)
    args = parser.parse_args()
    truth = load_truth(find_truth(args.data))
    rng = np.random.default_rng(0)
    predictions = []
    for boxes in truth.boxes:
        near = boxes[rng.integers(0, len(boxes), 200)] + rng.normal(0, 3, (200, 4))
        predictions.append((near, rng.random(200)))
    seconds = []
    for _ in range(args.rounds):
        began = time.perf_counter()
        result = measure_widerface(predictions, truth)
        seconds.append(time.perf_counter() - began)
    part = args.literal_pictures
    began = time.perf_counter()
    for masks in truth.counted.values():
        pictures = [
            (p[0].tolist(), p[1].tolist(), b.tolist(), m.tolist())
            for p, b, m in zip(predictions[:part], truth.boxes[:part], masks[:part], strict=True)
        ]
        average_precision(pictures, skip_empty=True)
    literal = (time.perf_counter() - began) * len(truth.names) / part
    document = {
        "processor": cpu_name(),
        "cores": available_cores(),
        "ap": result.ap,
        "seconds": [round(value, 3) for value in seconds],
        "median": round(statistics.median(seconds), 3),
        "literal_estimate": round(literal, 1),
        "times_faster": round(literal / statistics.median(seconds)),
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
