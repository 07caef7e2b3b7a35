"""One detector or several that look at images, mirrored and scaled where asked for, as one detector."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facetrain.core.faces import Faces, Image
from facetrain.core.files import sha256
from facetrain.data.landmark_names import columns_of, mirror_order
from facetrain.detect.detector import FaceDetector
from facetrain.eval.protocol import EvalProtocol, ProtocolDetector
from facetrain.label.fusion import fuse


@dataclass(frozen=True)
class Looks:
    """How images are looked at.

    score:  what a detector scores lower is not counted
    nms:    of a detector's faces that overlap by a higher IoU only the best stays
    flip:   at the mirrored image too
    scales: factors of the image's size
    fusion: IoU above which faces of several detectors are one
    """

    score: float = 0.3
    nms: float = 0.45
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    fusion: float = 0.55


class Observers:
    """Detectors that look at an image each, and what they agree on.

    weights:  what `FaceDetector` takes, one or several
    families: of ONNX files that are not recognised, by their weights

    The views of one detector are merged as in a measurement: at another scale it sees other faces, and one that it
    misses there says nothing. Several detectors are fused, where one that misses a face speaks against it.
    """

    def __init__(
        self,
        weights: Sequence[str],
        looks: Looks = Looks(),
        *,
        family: str | None = None,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        protocol = EvalProtocol(score=0.0, nms=looks.nms, flip=looks.flip, scales=looks.scales)
        self.looks = looks
        self.detectors = [
            FaceDetector(name, score=looks.score, nms=looks.nms, device=device, threads=threads, family=family)
            for name in weights
        ]
        # of the first that has landmarks: the others' are taken by name
        self.landmark_names = next((d.landmark_names for d in self.detectors if d.landmark_names), ())
        self._shown = [ProtocolDetector(d, protocol, mirror_order(d.landmark_names)) for d in self.detectors]

    def detect_batch(self, images: Sequence[Image]) -> list[Faces]:
        """Faces of each image, (H, W, 3) uint8 BGR of any size; landmarks that nobody has are NaN."""
        return [self._look(image) for image in images]

    def _look(self, image: Image) -> Faces:
        found = []
        for detector, shown in zip(self.detectors, self._shown, strict=True):
            [faces] = shown.detect_batch([image])
            found.append(_with_points(faces, detector.landmark_names, self.landmark_names))
        return found[0] if len(found) == 1 else fuse(found, self.looks.fusion)

    def fingerprint(self) -> dict[str, object]:
        """What the result depends on: equal ones give equal faces."""
        looks = self.looks
        return {
            "weights": [{"name": Path(d.path).name, "sha256": sha256(d.path)} for d in self.detectors],
            "families": [d.family for d in self.detectors],
            "landmarks": list(self.landmark_names),
            "score": looks.score,
            "nms": looks.nms,
            "flip": looks.flip,
            "scales": list(looks.scales),
            "fusion": looks.fusion,
        }


def _with_points(faces: Faces, there: Sequence[str], wanted: Sequence[str]) -> Faces:
    """Faces with the points that are wanted, in their order, NaN where the detector does not have them."""
    if tuple(there) == tuple(wanted):
        return faces
    points = np.full((len(faces), len(wanted), 2), np.nan, np.float32)
    for target, column in enumerate(columns_of(wanted, there) or []):
        if column >= 0:
            points[:, target] = faces.landmarks[:, column]
    return Faces(faces.boxes, faces.scores, points)
