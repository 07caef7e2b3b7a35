"""Decode the twelve outputs of an exported file with NumPy alone; any runtime may stand in for onnxruntime.

facetrain export-onnx -o yunet_n.onnx
python examples/onnx_numpy.py yunet_n.onnx photo.jpg
"""

import sys

import cv2
import numpy as np
import onnxruntime

STRIDES, SCORE, OVERLAP = (8, 16, 32), 0.5, 0.45


def decode(outputs, width):
    """Boxes (N, 4) xyxy, scores (N,), landmarks (N, 5, 2) of all priors that score enough, in pixels of the input."""
    found = []
    for stride in STRIDES:
        score = (outputs[f"cls_{stride}"] * outputs[f"obj_{stride}"])[0, :, 0]
        chosen = np.flatnonzero(score >= SCORE)  # first, because only few pass: the rest costs nothing
        row, column = np.divmod(chosen, width // stride)
        corner = np.stack([column, row], 1)
        box, points = outputs[f"bbox_{stride}"][0, chosen], outputs[f"kps_{stride}"][0, chosen]
        centre, half = (corner + box[:, :2]) * stride, np.exp(box[:, 2:]) * stride / 2
        landmarks = (corner[:, None] + points.reshape(-1, 5, 2)) * stride
        found.append((np.concatenate([centre - half, centre + half], 1), score[chosen], landmarks))
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def suppress(boxes, scores):
    """Indices of the boxes that stay, best first: a box goes that overlaps a better one by more than OVERLAP."""
    left, kept = np.argsort(-scores, kind="stable"), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        sides = np.minimum(boxes[best, 2:], boxes[left, 2:]) - np.maximum(boxes[best, :2], boxes[left, :2])
        common = np.clip(sides, 0, None).prod(1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        left = left[common <= OVERLAP * (areas[best] + areas[left] - common)]
    return kept


def main(model, path):
    image = cv2.imread(path)  # (H, W, 3), BGR, as the network wants it
    below, right = -image.shape[0] % 32, -image.shape[1] % 32
    padded = np.pad(image, ((0, below), (0, right), (0, 0)))
    session = onnxruntime.InferenceSession(model)
    values = session.run(None, {"input": padded.transpose(2, 0, 1)[None].astype(np.float32)})
    outputs = dict(zip([output.name for output in session.get_outputs()], values, strict=True))
    boxes, scores, landmarks = decode(outputs, padded.shape[1])
    for index in suppress(boxes, scores):
        print(f"{scores[index]:.3f}", *boxes[index].round(1), *landmarks[index].ravel().round(1))


if __name__ == "__main__":
    main(*sys.argv[1:3])
