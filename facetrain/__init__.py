"""facetrain: train, measure and ship tiny face detectors. examples/python_api.md shows how its names are used.

Public names load on first use, so that importing the package costs nothing and torch only comes with what needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facetrain.compare.compare import CompareSettings as CompareSettings
    from facetrain.compare.compare import compare_models as compare_models
    from facetrain.compare.results import Comparison as Comparison
    from facetrain.config.load import load_config as load_config
    from facetrain.config.schema import Config as Config
    from facetrain.core.errors import FacetrainError as FacetrainError
    from facetrain.core.faces import Faces as Faces
    from facetrain.core.faces import LabelledImage as LabelledImage
    from facetrain.detect.detector import FaceDetector as FaceDetector
    from facetrain.detect.find_weights import find_weights as find_weights
    from facetrain.detect.load_weights import load_checkpoint as load_checkpoint
    from facetrain.detect.load_weights import load_model as load_model
    from facetrain.eval.difference import Difference as Difference
    from facetrain.eval.difference import difference as difference
    from facetrain.eval.evaluate import Evaluation as Evaluation
    from facetrain.eval.evaluate import Source as Source
    from facetrain.eval.evaluate import evaluate_model as evaluate_model
    from facetrain.eval.intervals import Estimate as Estimate
    from facetrain.eval.protocol import EvalProtocol as EvalProtocol
    from facetrain.export.export_cpp import CppExport as CppExport
    from facetrain.export.export_cpp import CppRequest as CppRequest
    from facetrain.export.export_cpp import export_cpp as export_cpp
    from facetrain.export.export_onnx import OnnxExport as OnnxExport
    from facetrain.export.export_onnx import export_onnx as export_onnx
    from facetrain.export.onnx.request import OnnxOptions as OnnxOptions
    from facetrain.export.onnx.request import Quantised as Quantised
    from facetrain.model.weights import Checkpoint as Checkpoint
    from facetrain.model.weights import save_checkpoint as save_checkpoint
    from facetrain.train.loop import TrainResult as TrainResult
    from facetrain.train.loop import train_model as train_model

__version__ = "0.1.0"
_HOMES = {
    "CompareSettings": "facetrain.compare.compare",
    "Comparison": "facetrain.compare.results",
    "Checkpoint": "facetrain.model.weights",
    "Config": "facetrain.config.schema",
    "CppExport": "facetrain.export.export_cpp",
    "CppRequest": "facetrain.export.export_cpp",
    "Difference": "facetrain.eval.difference",
    "Estimate": "facetrain.eval.intervals",
    "EvalProtocol": "facetrain.eval.protocol",
    "Evaluation": "facetrain.eval.evaluate",
    "FaceDetector": "facetrain.detect.detector",
    "Faces": "facetrain.core.faces",
    "FacetrainError": "facetrain.core.errors",
    "LabelledImage": "facetrain.core.faces",
    "OnnxExport": "facetrain.export.export_onnx",
    "OnnxOptions": "facetrain.export.onnx.request",
    "Quantised": "facetrain.export.onnx.request",
    "Source": "facetrain.eval.evaluate",
    "TrainResult": "facetrain.train.loop",
    "compare_models": "facetrain.compare.compare",
    "difference": "facetrain.eval.difference",
    "evaluate_model": "facetrain.eval.evaluate",
    "export_cpp": "facetrain.export.export_cpp",
    "export_onnx": "facetrain.export.export_onnx",
    "find_weights": "facetrain.detect.find_weights",
    "load_checkpoint": "facetrain.detect.load_weights",
    "load_config": "facetrain.config.load",
    "load_model": "facetrain.detect.load_weights",
    "save_checkpoint": "facetrain.model.weights",
    "train_model": "facetrain.train.loop",
}
__all__ = [*_HOMES, "__version__"]  # noqa: PLE0604  # the names of a table are strings


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'facetrain' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
