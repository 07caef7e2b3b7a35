"""Evaluation at original size on a CPU against the network alone, images per second, in turn.

  python tests/benchmarks/eval_throughput.py --data data/widerface --weights yunet_n_dynamic.onnx

session  one onnxruntime session with all threads, called over the same images, already decoded and padded
ours     `evaluate_model`'s detections: reading, decoding, network, post-processing
"""

import argparse
import json
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

from facetrain.core.boxes import pad_image, padded_size
from facetrain.core.images import read_image
from facetrain.core.machine import available_cores, cpu_name
from facetrain.eval.evaluate import Source, evaluate_model
from facetrain.eval.protocol import EvalProtocol
from facetrain.eval.wider_face.benchmark import widerface_benchmark


def session_seconds(weights: str, blobs: list[np.ndarray]) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    session = onnxruntime.InferenceSession(weights, options)
    session.run(None, {"input": blobs[0]})
    began = time.perf_counter()
    for blob in blobs:
        session.run(None, {"input": blob})
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data/widerface", type=Path)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    paths = [image.path for image in widerface_benchmark(args.data, present_only=True).images]
    blobs = []
    for path in paths:
        image = read_image(path)
        padded = pad_image(image, *padded_size(image.shape[1], image.shape[0], 32))
        blobs.append(np.ascontiguousarray(padded.transpose(2, 0, 1)[None], np.float32))
    seconds: dict[str, list[float]] = {"session": [], "ours": []}
    for _ in range(args.rounds):
        seconds["session"].append(session_seconds(args.weights, blobs))
        result = evaluate_model(Source(args.weights), args.data, EvalProtocol(), widerface=True, present_only=True)
        seconds["ours"].append(result.seconds["detections"])
        print({name: round(values[-1], 2) for name, values in seconds.items()}, file=sys.stderr)
    document = {
        "processor": cpu_name(),
        "cores": available_cores(),
        "onnxruntime": onnxruntime.__version__,
        "images": len(paths),
        "seconds": {name: [round(v, 2) for v in values] for name, values in seconds.items()},
        "ours_to_session": round(
            statistics.median(a / b for a, b in zip(seconds["ours"], seconds["session"], strict=True)), 3
        ),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
