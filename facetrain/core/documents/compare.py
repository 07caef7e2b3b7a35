"""`facetrain compare --json`."""

from typing import Annotated, NotRequired, TypedDict

from facetrain.core.documents.common import DifferenceDocument, EstimateDocument, Face, Problem, ProtocolDocument


class TimesDocument(TypedDict):
    """Times of one kind of work, in milliseconds."""

    median_ms: Annotated[float, "half of the runs were at least as fast"]
    p90_ms: Annotated[float, "nine of ten were"]
    spread: Annotated[float, "half of what lies between the quartiles, as a share of the median"]
    runs: Annotated[int, "measured"]


class SpeedDocument(TypedDict):
    """Times on a number of threads."""

    network: Annotated[TimesDocument, "the network alone"]
    end_to_end: Annotated[TimesDocument, "from decoded image to faces"]
    fps: Annotated[float, "images a second, end to end"]


class ModelRow(TypedDict):
    """One model. What could not be had, or was not asked for, is null."""

    name: Annotated[str, "its file's name, as long as tells it from the others"]
    path: Annotated[str | None, "its file"]
    kind: Annotated[str | None, "onnx, or checkpoint"]
    family: Annotated[str | None, "of detectors"]
    bytes: Annotated[int | None, "of the file"]
    sha256: Annotated[str | None, "of the file"]
    size: Annotated[list[int] | None, "width and height that the costs are for"]
    static_shape: Annotated[bool, "whether the file takes no other size"]
    landmark_names: Annotated[list[str] | None, "of each face's points, in their order"]
    parameters: Annotated[int | None, "learnt numbers"]
    parameters_ratio: Annotated[float | None, "times those of the smallest model"]
    multiply_adds: Annotated[int | None, "of the convolutions"]
    mflops: Annotated[float | None, "twice the multiply-adds, in millions"]
    published_mflops: Annotated[float | None, "by the rule of YuNet's published figure"]
    one_core: Annotated[SpeedDocument | None, "on one thread"]
    all_cores: Annotated[SpeedDocument | None, "on `threads`"]
    easy: Annotated[float | None, "AP"]
    medium: Annotated[float | None, "AP"]
    hard: Annotated[float | None, "AP"]
    intervals: Annotated[dict[str, EstimateDocument], "of each AP"]
    detections: Annotated[int | None, "in all images"]
    ap_size: Annotated[str | None, "how images were shown for AP"]
    ap_cached: Annotated[bool | None, "whether AP was kept from an earlier comparison"]
    failed: Annotated[bool, "see `errors`"]


class PairDocument(TypedDict):
    """Two models: AP of the second less that of the first."""

    first: Annotated[str, "name"]
    second: Annotated[str, "name"]
    differences: Annotated[dict[str, DifferenceDocument], "of each AP"]


class AgreementDocument(TypedDict):
    """Two models on the one image of `image`."""

    models: Annotated[list[str], "their names"]
    both: Annotated[int, "faces that both found"]
    only_first: Annotated[int, "faces that the first found alone"]
    only_second: Annotated[int, "faces that the second found alone"]
    mean_iou: Annotated[float | None, "of the faces that both found"]


class MachineDocument(TypedDict):
    """Where it was measured."""

    cpu: Annotated[str, "name of the processor"]
    cores: Annotated[int, "that may be used"]
    threads: Annotated[int, "of `all_cores`"]
    platform: Annotated[str, "the system"]
    versions: Annotated[dict[str, str], "of Python and of the libraries that ran"]


class TimingDocument(TypedDict):
    """How times were measured."""

    size: Annotated[list[int], "width and height of the image"]
    score: Annotated[float, "least score of a face while timing"]
    nms: Annotated[float, "IoU of the suppression"]
    rounds: Annotated[int, "in each of which every model has its turn"]
    repeats: Annotated[int, "runs of a turn"]


class CompareDocument(TypedDict):
    """Models side by side."""

    machine: Annotated[MachineDocument, "where it was measured"]
    timing: Annotated[TimingDocument, "how times were measured"]
    protocol: Annotated[ProtocolDocument | None, "of the APs; null where none was asked for"]
    models: Annotated[list[ModelRow], "in the order given"]
    pairs: Annotated[list[PairDocument], "which of two has the higher AP; more than six models: each with the first"]
    image: Annotated[str | None, "of `image`"]
    faces: Annotated[dict[str, list[Face]] | None, "found in it, by the model's name"]
    agreement: Annotated[list[AgreementDocument] | None, "each model with each, on it"]
    interrupted: Annotated[bool, "stopped by Ctrl-C; what was finished is there"]
    errors: NotRequired[Annotated[list[Problem], "of models that failed"]]
