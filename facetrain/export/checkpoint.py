"""The weights that an export starts from."""

from pathlib import Path

from facetrain.core.errors import InputError
from facetrain.detect.bundled import bundled_weights
from facetrain.detect.detector import find_weights


def find_checkpoint(weights: str) -> Path:
    """The checkpoint that `weights` means: a file, or the name of bundled weights. Raises InputError or DataError."""
    if "." not in Path(weights).name and not Path(weights).exists():
        return bundled_weights(weights, ".pt")
    path = find_weights(weights)
    if path.suffix.lower() == ".onnx":
        raise InputError(
            f"{path}: an ONNX file, which cannot be exported again",
            "give the checkpoint (.pt, .pth) that it was made from, or the name of bundled weights",
        )
    return path


def export_name(path: Path) -> str:
    """What files made from a checkpoint are called: its own name, or for a run's best.pt and last.pt the run's."""
    return path.resolve().parent.name if path.stem in ("best", "last", "previous") else path.stem
