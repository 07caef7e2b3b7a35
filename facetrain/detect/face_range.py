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


# Measured by tests/benchmarks/face_sizes.py; of files that do not say it themselves.
_FAMILIES = {"yunet": FaceRange(12, 400)}
_USUAL = FaceRange(12, 400)


def range_of(family: str, text: str | None = None) -> FaceRange:
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
