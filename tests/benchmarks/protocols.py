"""Why papers' numbers differ: the same detectors on the same images by different protocols, as a Markdown table.

    python tests/benchmarks/protocols.py --data data/widerface yunet_n scrfd.onnx retinaface.onnx

Every column changes one thing against `original`: images shown as they are, detections above .02, NMS at .45.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from facetrain.core.faces import Faces
from facetrain.eval.evaluate import Source, evaluate_on, load_benchmark
from facetrain.eval.protocol import EvalProtocol

SUBSETS = ("easy", "medium", "hard")
ORIGINAL = EvalProtocol()
SHOWN = {"original": ORIGINAL, "640×640": replace(ORIGINAL, size="640"), "VGA": replace(ORIGINAL, size="vga")}
THRESHOLD = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detectors", nargs="+")
    parser.add_argument("--data", type=Path, default=Path("data/widerface"))
    args = parser.parse_args()
    benchmark = load_benchmark(args.data, widerface=True, present_only=True)
    titles = [*SHOWN, f"original, score > {THRESHOLD:g}"]
    print(f"| easy, medium, hard | {' | '.join(titles)} |")
    print(f"| --- |{' --- |' * len(titles)}")
    for detector in args.detectors:
        results = {title: evaluate_on(benchmark, Source(detector), rules, draws=0) for title, rules in SHOWN.items()}
        columns = [result.ap for result in results.values()]
        sure = [above(faces) for faces in results["original"].found]
        columns.append(benchmark.score(sure).ap)
        cells = [" ".join(f"{ap[subset]:.3f}".removeprefix("0") for subset in SUBSETS) for ap in columns]
        print(f"| {Path(detector).name} | {' | '.join(cells)} |", flush=True)


def above(faces: Faces) -> Faces:
    passed = faces.scores > THRESHOLD
    return Faces(faces.boxes[passed], faces.scores[passed], faces.landmarks[passed])


if __name__ == "__main__":
    main()
