"""Weights that others have published and facetrain knows by name, a row of `PUBLIC` each.

Nothing here goes to the network: `detect/get_weights` does, when it is asked to. The files lie in the cache folder as
`<name>.onnx`, to detect with, and `<name>.pth`, to train from and to export.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from facetrain.core.files import sha256, user_cache
from facetrain.detect.bundled import bundled_names, bundled_weights

State = Literal["absent", "whole", "damaged"]


@dataclass(frozen=True)
class PublicFile:
    """One file: where it is below the weights' source, its bytes and their SHA-256."""

    path: str
    size: int
    sha256: str

    @property
    def suffix(self) -> str:
        """`.onnx` or `.pth`."""
        return Path(self.path).suffix


@dataclass(frozen=True)
class PublicWeights:
    """A row: a network that others trained.

    what:    a line that says it
    source:  the address that the files' paths are appended to, at a fixed commit
    licence: as the source states it; licence_from: where it does
    ap:      (value, low, high) of each subset: AP on 400 validation images of WIDER FACE and its 95 % interval
    """

    name: str
    what: str
    source: str
    licence: str
    licence_from: str
    files: tuple[PublicFile, ...]
    ap: Mapping[str, tuple[float, float, float]]

    def file(self, suffix: str) -> PublicFile:
        """The file with this suffix."""
        return next(file for file in self.files if file.suffix == suffix)


# A commit of January 2024: what lies at these addresses cannot change.
_YUNET = "https://raw.githubusercontent.com/ShiqiYu/libfacedetection.train/0047ac24afb1a50a0c6105001c89d1b5b805dbf1/"
_YUNET_LICENCE = ("Apache-2.0", "their LICENSE file; a badge in their README says BSD")

PUBLIC = (
    PublicWeights(
        "yunet_n_released",
        "YuNet-n of its authors, 640 epochs on all of WIDER FACE",
        _YUNET,
        *_YUNET_LICENCE,
        (
            PublicFile(
                "onnx/yunet_n_dynamic.onnx",
                322_906,
                "104ee26c71d5c270ce79a6b3dced91c91013260d29a6bf18f9296c5b8c4c2b12",
            ),
            PublicFile(
                "weights/yunet_n.pth", 747_497, "9c7c9e14a4d60e57491d77e4d8b0d451bd834f300e05c0dea7fd1f6533817b06"
            ),
        ),
        {"easy": (0.909, 0.879, 0.931), "medium": (0.888, 0.854, 0.914), "hard": (0.799, 0.745, 0.842)},
    ),
    PublicWeights(
        "yunet_s_released",
        "YuNet-s of its authors, 640 epochs on all of WIDER FACE",
        _YUNET,
        *_YUNET_LICENCE,
        (
            PublicFile(
                "onnx/yunet_s_dynamic.onnx",
                237_823,
                "daede24002cc8590f457998cc5e6c9e8b82f45f6bd969506a8913cd4ed10a2d3",
            ),
            PublicFile(
                "weights/yunet_s.pth", 560_340, "f2688fecd5aef7d204d04ca12ff377b724978abbe5955740bc67280d99ffe4d6"
            ),
        ),
        {"easy": (0.901, 0.870, 0.923), "medium": (0.875, 0.838, 0.903), "hard": (0.751, 0.686, 0.801)},
    ),
)


@dataclass(frozen=True)
class OtherFile:
    """The weights called `name` in one more file of their source. elsewhere: who else has it, by which name."""

    name: str
    path: str
    elsewhere: str | None = None


# by SHA-256
OTHER_FILES = {
    "81dbde155e982455488235acb8ec2dec5d647edf7cf7080d33e4abb69b93a0d2": OtherFile(
        "yunet_n_released", "onnx/yunet_n_320_320.onnx"
    ),
    "25a606a145a5b6d7271ae138fbd00eba91dad8b83222ae3f2c7ecd0f4a7b0e31": OtherFile(
        "yunet_n_released", "onnx/yunet_n_640_640.onnx"
    ),
    "beb05bf2378aee45cd7c41056da07265b7bb91041ed1b06f923819a9c744ec36": OtherFile(
        "yunet_s_released", "onnx/yunet_s_320_320.onnx"
    ),
    "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4": OtherFile(
        "yunet_s_released", "onnx/yunet_s_640_640.onnx", "OpenCV zoo's face_detection_yunet_2023mar.onnx"
    ),
}


@dataclass(frozen=True)
class KnownFile:
    """A file that was recognised by its SHA-256: the name of its weights, and which file of theirs it is."""

    name: str
    what: str


def public_names() -> list[str]:
    """The names of public weights, in the order of the table."""
    return [row.name for row in PUBLIC]


def public_weights(name: str) -> PublicWeights | None:
    """The row of a name; None where there is none."""
    return next((row for row in PUBLIC if row.name == name), None)


def cache_folder() -> Path:
    """Where fetched weights lie, see `core.files.user_cache`."""
    return user_cache() / "facetrain" / "weights"


def cached(row: PublicWeights, file: PublicFile) -> Path:
    """Where a file lies once it was fetched."""
    return cache_folder() / f"{row.name}{file.suffix}"


def state_of(row: PublicWeights, file: PublicFile) -> State:
    """Whether a file is in the cache, and is what it should be."""
    path = cached(row, file)
    try:
        return "whole" if path.stat().st_size == file.size and sha256(path) == file.sha256 else "damaged"
    except FileNotFoundError:
        return "absent"
    except OSError:  # a folder of that name, or closed
        return "damaged"


def recognised(path: Path) -> KnownFile | None:
    """What a file of weights is, by its bytes and not by its name; None for a file that is not known, or unreadable."""
    try:
        digest = sha256(path)
    except OSError:
        return None
    for row in PUBLIC:
        for file in row.files:
            if file.sha256 == digest:
                return KnownFile(row.name, f"{file.path} of its authors")
    if (other := OTHER_FILES.get(digest)) is not None:
        also = f", byte for byte {other.elsewhere}" if other.elsewhere else ""
        return KnownFile(other.name, f"{other.path} of its authors{also}")
    for suffix in (".onnx", ".pt"):
        for name in bundled_names(suffix):
            if sha256(bundled_weights(name, suffix)) == digest:
                return KnownFile(name, f"the bundled {name}{suffix}")
    return None
