"""Runs ONNX files in an environment with NumPy and one runtime, and nothing of facetrain; started by test_runtimes.py.

    python runtime_probe.py opencv|onnxruntime JOB.json ARRAYS.npz RESULT.npz

JOB: {"models": {name: {"path", "inputs": [names]}}, "images": [names], "resize": whether one detector is to see
images of several sizes}. ARRAYS: inputs (B, 3, H, W) float32 and images (H, W, 3) uint8 by name; decoded by the
caller, because two OpenCVs may read one JPEG differently. RESULT has `version`, and of each model
`name|raw|input|output`, `name|faces|image` and `name|again|first image`, or `name|error` and `name|faces error`
where the network or the detector refused.
"""

import json
import sys
from pathlib import Path

import numpy as np


def run_opencv(path, inputs):
    import cv2

    net = cv2.dnn.readNetFromONNX(path)
    names = net.getUnconnectedOutLayersNames()
    for key, images in inputs.items():
        net.setInput(images, "input")
        for name, value in zip(names, net.forward(names), strict=True):
            # an output without a row comes back as None
            yield f"raw|{key}|{name}", np.zeros((0, 0), np.float32) if value is None else value


def run_onnxruntime(path, inputs):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    for key, images in inputs.items():
        for name, value in zip(names, session.run(names, {"input": images}), strict=True):
            yield f"raw|{key}|{name}", value


def detect(path, images, resize):
    """FaceDetectorYN's rows (F, 15) for each image.

    resize: one detector sees all, is told the size of each, and sees the first again; otherwise each has its own.
    """
    import cv2

    def rows(detector, image):
        found = detector.detect(image)[1]
        return np.zeros((0, 15), np.float32) if found is None else found

    def create(image):
        return cv2.FaceDetectorYN.create(path, "", image.shape[1::-1], 0.6, 0.3, 5000)

    first = next(iter(images))
    detector = create(images[first])
    for key, image in images.items():
        if not resize:
            detector = create(image)
        elif key != first:
            detector.setInputSize(image.shape[1::-1])
        yield f"faces|{key}", rows(detector, image)
    if resize:
        detector.setInputSize(images[first].shape[1::-1])
        yield f"again|{first}", rows(detector, images[first])


def main(runtime, job, arrays, result):
    if runtime == "opencv":
        import cv2 as module

        module.setNumThreads(1)
        refused, run = module.error, run_opencv
    else:
        import onnxruntime as module

        refused, run = Exception, run_onnxruntime  # its errors have no public base class
    job = json.loads(Path(job).read_text())
    with np.load(arrays) as stored:
        given = dict(stored)
    images = {key: given[key] for key in job["images"]}
    found = {"version": module.__version__}
    for name, model in job["models"].items():
        try:
            for key, value in run(model["path"], {key: given[key] for key in model["inputs"]}):
                found[f"{name}|{key}"] = value
        except refused as error:
            found[f"{name}|error"] = str(error)
        try:
            if runtime == "opencv" and images:
                for key, value in detect(model["path"], images, job["resize"]):
                    found[f"{name}|{key}"] = value
        except refused as error:
            found[f"{name}|faces error"] = str(error)
    np.savez(result, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
