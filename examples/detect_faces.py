"""Print the faces of an image: python examples/detect_faces.py photo.jpg"""

import sys

from facetrain import FaceDetector


def main(path: str) -> None:
    faces = FaceDetector("yunet_n", score=0.5).detect(path)
    for box, score, landmarks in zip(faces.boxes, faces.scores, faces.landmarks, strict=True):
        x1, y1, x2, y2 = box.round().astype(int)
        eye = landmarks[0].round().astype(int)
        print(f"{score:.2f}: {x2 - x1}x{y2 - y1} pixels at ({x1}, {y1}), right eye at ({eye[0]}, {eye[1]})")


if __name__ == "__main__":
    main(sys.argv[1])
