"""Find faces with OpenCV and an exported file; nothing else is needed, not even facetrain.

facetrain export-onnx -o yunet_n.onnx
python examples/onnx_opencv.py yunet_n.onnx photo.jpg
"""

import sys

import cv2

# OpenCV shows the square root of facetrain's score: 0.7 here is 0.49 there.
SCORE, OVERLAP, BEST = 0.7, 0.3, 5000


def main(model, path):
    image = cv2.imread(path)
    height, width = image.shape[:2]
    detector = cv2.FaceDetectorYN.create(model, "", (width, height), SCORE, OVERLAP, BEST)
    # For an image of another size: detector.setInputSize((width, height)). OpenCV pads by itself.
    _, faces = detector.detect(image)
    for face in [] if faces is None else faces:
        x, y, w, h = face[:4]
        print(f"{face[14] ** 2:.3f}", *(round(float(v), 1) for v in (x, y, x + w, y + h, *face[4:14])))


if __name__ == "__main__":
    main(*sys.argv[1:3])
