"""`facetrain info --json`: of the installation, and of a model."""

from typing import Annotated, TypedDict


class Part(TypedDict):
    """What a part of a network costs."""

    name: Annotated[str, "backbone, neck, head, graph or total"]
    parameters: Annotated[int, "learnt numbers"]
    multiply_adds: Annotated[int, "of the convolutions"]
    mflops: Annotated[float | None, "by the rule of the published figure; null for an ONNX file"]


class ModelDocument(TypedDict):
    """What a model costs."""

    source: Annotated[str, "as it was given"]
    kind: Annotated[str, "config, checkpoint or onnx"]
    size: Annotated[list[int], "width and height that the costs are for"]
    parts: Annotated[list[Part], "of the network"]
    total: Annotated[Part, "of all"]
    strides: Annotated[list[int], "of the outputs; empty where an ONNX file does not say"]
    landmarks: Annotated[list[str], "their names"]


class KnownWeights(TypedDict):
    """Weights that are known by their SHA-256."""

    name: Annotated[str, "for `weights`"]
    file: Annotated[str, "which of their files it is"]


class FaceSizes(TypedDict):
    """Shorter sides of faces, in pixels of the image as the network is shown it."""

    least: Annotated[float, "the smallest that is found at least half as often as the best size is"]
    most: Annotated[float, "the largest that is found at least nine tenths as often as the best size is"]


class OperatingScoreDocument(TypedDict):
    """The lowest score at which so large a part of what is found are faces."""

    precision: Annotated[float, "the wanted part"]
    score: Annotated[float, "what a face needs to count"]
    low: Annotated[float | None, "lower end of the score's 95 % interval; null where it is not known"]
    high: Annotated[float | None, "upper end"]
    recall: Annotated[float, "part of the labelled faces that is found at it"]


class OperatingPointsDocument(TypedDict):
    """Scores for wanted precisions, measured on images at their original size."""

    images: Annotated[int, "how many"]
    of: Annotated[str, "widerface, or labelled: a set's validation images"]
    points: Annotated[list[OperatingScoreDocument], "of precisions .99, .95 and .9, as far as they are reached"]


class ModelInfo(ModelDocument):
    """`facetrain info MODEL --json`."""

    face_range: Annotated[FaceSizes | None, "as the file or its family has it; null for what is no detector's file"]
    operating_points: Annotated[OperatingPointsDocument | None, "as the file has them"]
    known_as: Annotated[KnownWeights | None, "null for a configuration, and for unknown weights"]


class ConfigDocument(TypedDict):
    """A whole configuration, of a model file or a checkpoint."""

    config: Annotated[dict[str, dict[str, object]], "by section (model, data, train, eval): its keys, as in YAML"]


class Gpu(TypedDict):
    """A GPU that torch can use."""

    device: Annotated[str, "cuda:0, or mps"]
    name: Annotated[str, "of the card"]
    memory_mb: Annotated[int | None, "MiB; null where it is not known"]
    capability: Annotated[str | None, "of CUDA"]


class Devices(TypedDict):
    """What can compute."""

    cpu: Annotated[str, "name of the processor"]
    cores: Annotated[int, "that may be used"]
    bf16: Annotated[bool, "whether it multiplies bfloat16"]
    free_memory_mb: Annotated[int, "MiB"]
    gpus: Annotated[list[Gpu] | None, "null without torch"]
    onnxruntime: Annotated[list[str], "its execution providers"]


class BundledWeights(TypedDict):
    """Weights that come along."""

    name: Annotated[str, "for `weights`"]
    bytes: Annotated[int, "of the ONNX file"]
    sha256: Annotated[str, "of the ONNX file"]


class InstallationProblem(TypedDict):
    """Something that does not work."""

    what: Annotated[str, "is wrong"]
    hint: Annotated[str, "what to do"]


class InfoDocument(TypedDict):
    """`facetrain info --json`."""

    versions: Annotated[dict[str, str | None], "of Python and of the packages; null where missing"]
    wheels: Annotated[dict[str, list[str]], "which distributions opencv and onnxruntime come from"]
    platform: Annotated[str, "the system"]
    devices: Annotated[Devices, "what can compute"]
    codecs: Annotated[dict[str, bool], "image formats, and whether they can be read"]
    video: Annotated[bool | None, "whether OpenCV has ffmpeg; null without OpenCV"]
    weights: Annotated[list[BundledWeights], "that come along"]
    problems: Annotated[list[InstallationProblem], "none is best"]
