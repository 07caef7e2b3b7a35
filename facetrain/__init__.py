"""facetrain: train, measure and ship tiny face detectors.

Public names load on first use, so that importing the package costs nothing and torch only comes with what needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facetrain.config.load import load_config as load_config
    from facetrain.core.faces import Faces as Faces
    from facetrain.detect.detector import FaceDetector as FaceDetector
    from facetrain.eval.difference import difference as difference
    from facetrain.eval.evaluate import evaluate_model as evaluate_model
    from facetrain.train.loop import train_model as train_model

__version__ = "0.1.0"
__all__ = ["FaceDetector", "Faces", "__version__", "difference", "evaluate_model", "load_config", "train_model"]

_HOMES = {
    "FaceDetector": "facetrain.detect.detector",
    "Faces": "facetrain.core.faces",
    "difference": "facetrain.eval.difference",
    "evaluate_model": "facetrain.eval.evaluate",
    "load_config": "facetrain.config.load",
    "train_model": "facetrain.train.loop",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'facetrain' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
