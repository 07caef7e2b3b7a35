"""Find faces with onnxruntime and a file that decodes and suppresses by itself: no code behind the network.

facetrain export-onnx --decoded --score 0.5 -o yunet_n_decoded.onnx
python examples/onnx_decoded.py yunet_n_decoded.onnx photo.jpg another.jpg
"""

import sys

import cv2
import numpy as np
import onnxruntime


def main(model, *paths):
    images = [cv2.imread(path) for path in paths]
    height, width = (-(-max(image.shape[side] for image in images) // 32) * 32 for side in (0, 1))
    batch = np.zeros((len(images), 3, height, width), np.float32)  # BGR, black at the right and below
    for place, image in zip(batch, images, strict=True):
        place[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
    (faces,) = onnxruntime.InferenceSession(model).run(None, {"input": batch})
    for index, x1, y1, x2, y2, score, *landmarks in faces:  # best first within an image
        print(paths[int(index)], f"{score:.3f}", *np.array([x1, y1, x2, y2, *landmarks]).round(1))


if __name__ == "__main__":
    main(*sys.argv[1:])
