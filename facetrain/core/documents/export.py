"""`facetrain export-onnx --json` and `facetrain export-cpp --json`."""

from typing import Annotated, TypedDict

from facetrain.core.documents.common import DifferenceDocument, ProtocolDocument


class CheckDocument(TypedDict):
    """One check of a written file."""

    name: Annotated[str, "what was checked"]
    ok: Annotated[bool | None, "null where it could not be made, see `note`"]
    note: Annotated[str, "what was looked at, or why not"]
    largest_difference: Annotated[float | None, "that was seen"]
    limit: Annotated[float | None, "that is allowed"]


class LostAp(TypedDict):
    """AP of a lower precision beside that of float32."""

    benchmark: Annotated[str, "widerface, or labelled"]
    images: Annotated[int, "measured"]
    intervals: Annotated[dict[str, DifferenceDocument], "of each drop"]
    before: Annotated[dict[str, float | None], "AP of float32"]
    after: Annotated[dict[str, float | None], "AP of the lower precision"]
    drop: Annotated[dict[str, float | None], "before less after"]
    protocol: Annotated[ProtocolDocument, "how images were shown"]


class Sizes(TypedDict):
    """Bytes of both files."""

    before: Annotated[int, "float32"]
    after: Annotated[int, "the lower precision"]


class Latency(TypedDict):
    """Milliseconds of both files on one thread."""

    before_ms: Annotated[float, "float32"]
    after_ms: Annotated[float, "the lower precision"]
    ratio: Annotated[float, "after / before"]
    width: Annotated[int, "of the image"]
    height: Annotated[int, "of the image"]
    batch: Annotated[int, "images a call"]
    threads: Annotated[int, "1"]
    processor: Annotated[str, "its name"]
    onnxruntime: Annotated[str, "its version"]


class PrecisionDocument(TypedDict):
    """A lower precision beside float32."""

    ap: Annotated[LostAp | None, "null without `data`"]
    largest_drop: Annotated[float | None, "of the APs"]
    far_drop: Annotated[float | None, "the largest far end of the drops' intervals"]
    bytes: Annotated[Sizes, "of the files"]
    latency: Annotated[Latency, "of an image"]


class OnnxDocument(TypedDict):
    """A written ONNX file."""

    file: Annotated[str, "its path"]
    bytes: Annotated[int, "its size"]
    sha256: Annotated[str, "of the file"]
    checkpoint: Annotated[str, "it was made of"]
    variant: Annotated[str, "name of the network's shape"]
    form: Annotated[str, "raw, rows or decoded"]
    precision: Annotated[str, "fp32, fp16 or int8"]
    size: Annotated[list[int] | None, "width and height; null: any"]
    batch: Annotated[int | None, "images a call; null: any"]
    opset: Annotated[int, "of ONNX"]
    checks: Annotated[list[CheckDocument], "that held"]
    comparison: Annotated[PrecisionDocument | None, "with float32, where the precision is lower"]
    examples: Annotated[str | None, "folder of programs that use such a file"]


class SourceFile(TypedDict):
    """A written C++ file."""

    path: Annotated[str, "where it lies"]
    bytes: Annotated[int, "its size"]


class FacesDifference(TypedDict):
    """Faces of two detectors beside each other."""

    faces: Annotated[int, "of the first"]
    alone: Annotated[int, "that only one of them has"]
    score: Annotated[float, "largest difference of the others' scores"]
    pixels: Annotated[float, "largest difference of their boxes and landmarks"]


class CppCheckDocument(TypedDict):
    """How compiled sources were compared."""

    compiler: Annotated[str, "its name and version"]
    images: Annotated[int, "looked at"]
    score_threshold: Annotated[float, "least score of a face"]
    truncated: Annotated[bool, "whether numbers are cut to whole pixels, as the library does"]
    difference: Annotated[FacesDifference, "of the C++ from a detector with the same weights"]
    effect_of_digits: Annotated[FacesDifference | None, "of these weights from the model's own; null: equal"]


class CppDocument(TypedDict):
    """Written C++ sources."""

    target: Annotated[str, "standalone, or libfacedetection"]
    checkpoint: Annotated[str, "they were made of"]
    name: Annotated[str, "of files and namespace"]
    digits: Annotated[int, "of the weights"]
    folder: Annotated[str, "where they lie"]
    files: Annotated[list[SourceFile], "that were written"]
    library: Annotated[str | None, "version of the library that they fit"]
    check: Annotated[CppCheckDocument | None, "null where none was made"]
    unchecked: Annotated[str | None, "why not"]
    advice: Annotated[str | None, "what to do next"]
