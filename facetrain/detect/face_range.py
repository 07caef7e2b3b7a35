"""Which sizes of faces a detector finds, in pixels of the image as its network is shown it."""

from collections.abc import Mapping
from dataclasses import dataclass

METADATA = "face_range"  # the key in an ONNX file, and in a checkpoint


@dataclass(frozen=True)
class FaceRange:
    """Sizes by a face's shorter side, in pixels of the network's input, at a score of 0.5.

    least: the smallest that is found at least half as often as the best size is
    most:  the largest that is found at least nine tenths as often as the best size is
    """

    least: float
    most: float

    def as_text(self) -> str:
        """`12-400`, as it stands in files."""
        return f"{self.least:g}-{self.most:g}"


# Of files that do not say it themselves. Measured by tests/benchmarks/face_sizes.py on the families' published files;
# of several with a free input size, what all of them find.
_YUNET = FaceRange(13.9, 406)
_FAMILIES = {
    "yunet": _YUNET,
    "facetrain_decoded": _YUNET,
    "scrfd": FaceRange(13.7, 268),
    "yolo5face": FaceRange(17.5, 367),
    "retinaface": FaceRange(15.8, 518),
    "blazeface": FaceRange(11.4, 178),
    # These end where a face fills the fixed input that they were measured at.
    "yolov8face": FaceRange(18.5, 448),
    "ultralight": FaceRange(9.6, 168),
}
_USUAL = FaceRange(12, 400)  # of families without a file to measure


def range_of(family: str, text: object = None) -> FaceRange:
    """What a file says of itself in its metadata, else its family's; what cannot be read counts as not said."""
    return parse_range(text) or _FAMILIES.get(family, _USUAL)


def parse_range(text: object) -> FaceRange | None:
    """What a file says, which may be anything; None where it is no range of sizes."""
    least, dash, most = text.partition("-") if isinstance(text, str) else ("", "", "")
    try:
        found = FaceRange(float(least), float(most)) if dash else None
    except ValueError:
        return None
    return found if found is not None and 1 <= found.least < found.most <= 1e5 else None


def as_metadata(found: FaceRange | None) -> Mapping[str, str]:
    """What is written into a file; nothing of one that has not been measured."""
    return {} if found is None else {METADATA: found.as_text()}
