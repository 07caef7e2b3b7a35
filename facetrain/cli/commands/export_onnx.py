"""`facetrain export-onnx`: a checkpoint as an ONNX file, checked before it is called done."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facetrain.cli import console
from facetrain.core.errors import UsageError
from facetrain.core.suggest import choices_hint

if TYPE_CHECKING:
    from facetrain.export.export_onnx import OnnxExport

EXAMPLES = """
facetrain export-onnx -w my_run -o my_run.onnx
facetrain export-onnx -w my_run --size 640 --batch 1
facetrain export-onnx --precision int8 --calibrate my_faces/train/images
facetrain export-onnx --decoded --score 0.6 -o decoded.onnx
"""


def run(
    *,
    weights: Annotated[
        str, typer.Option("--weights", "-w", help="A checkpoint, a run, or a name; see `facetrain weights`.")
    ] = ("yunet_n"),
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="File to write; by default the model's name in this folder."
        ),
    ] = None,
    size: Annotated[
        str, typer.Option(help="dynamic: any size. 640 or WIDTHxHEIGHT: that one only, for converters.")
    ] = "dynamic",
    batch: Annotated[
        str, typer.Option(metavar="N", help="dynamic: any number of images at once. N: exactly so many.")
    ] = ("dynamic"),
    opset: Annotated[int, typer.Option(help="11 to 17. 13 loads everywhere.")] = 13,
    decoded: Annotated[
        bool,
        typer.Option(
            "--decoded",
            help="Decoding and suppression inside: one output `faces`. For onnxruntime, and OpenCV 5 by its default "
            "engine (None where no face is); not for OpenCV 4, FaceDetectorYN or converters.",
        ),
    ] = False,
    no_nms: Annotated[
        bool,
        typer.Option(
            "--no-nms",
            help="With --decoded and a fixed --size: boxes of all priors, no suppression. For OpenCV 4 and 5, "
            "onnxruntime and converters.",
        ),
    ] = False,
    score: Annotated[float, typer.Option(help="With --decoded: least score of a face.")] = 0.5,
    nms: Annotated[float, typer.Option(help="With --decoded: of faces that overlap more only the best stays.")] = 0.45,
    precision: Annotated[
        str,
        typer.Option(
            help="fp32, fp16 or int8. int8: less than half the bytes, and faster with onnxruntime on a CPU with VNNI; "
            "fp16: half the bytes, for GPUs and accelerators, no faster on a CPU."
        ),
    ] = "fp32",
    calibrate: Annotated[
        Path | None, typer.Option(help="With int8: folder of training images that show the ranges of the layers.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="With fp16 and int8: labelled set to measure AP on, before and after.")
    ] = None,
    max_drop: Annotated[float | None, typer.Option(help="Fail if a lower precision loses more AP than this.")] = None,
    check_images: Annotated[
        Path | None, typer.Option(help="Folder of images to check on, instead of a photograph and drawn faces.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write a checkpoint as ONNX that loads in OpenCV 4.8 to 5 and onnxruntime, and check that it does what it should.

    The plain form is FaceDetectorYN's: twelve outputs, any size, any batch.
    """
    from facetrain.export.onnx.request import OnnxOptions, Quantised, check_places

    if no_nms and not decoded:
        raise UsageError("--no-nms is for --decoded", "the plain form has no suppression inside anyway")
    fixed = None if size == "dynamic" else console.parse_size(size, word="dynamic")
    options = OnnxOptions(
        size=fixed,
        batch=None if batch == "dynamic" else _whole(batch),
        opset=opset,
        form="rows" if no_nms else "decoded" if decoded else "raw",
        score=score,
        nms=nms,
    )
    lower = Quantised(precision, calibrate, data, max_drop)  # type: ignore[arg-type]  # judged in check_places
    check_places(weights, output, options, lower, check_images)  # in a moment, before anything heavy is imported
    with (
        console.interruptible("nothing was written"),
        console.progress("images", shown=precision != "fp32") as advance,
    ):
        from facetrain.export.export_onnx import export_onnx

        result = export_onnx(weights, output, options, lower, check_images, console.say, advance)
    console.result(result.as_dict(), _text(result), as_json=json)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"--batch {text}: neither a number nor dynamic", choices_hint(text, ["dynamic"])) from error


def _text(result: "OnnxExport") -> str:
    rows = [["check", "", "largest difference", "allowed", ""]]
    for check in result.checks:
        verdict = {True: "ok", False: "FAILED", None: "-"}[check.ok]
        gap, limit = ("" if value is None else f"{value:.1e}" for value in (check.largest, check.limit))
        rows.append([check.name, verdict, gap, limit, check.note])
    lines = [
        f"{result.path}: {result.size:,} bytes, {result.variant}, {result.precision}",
        "",
        console.table(rows, 2, 4),
        "",
    ]
    if result.comparison is not None:
        from facetrain.export.precision.measure import text

        lines += [text(result.comparison, result.precision), ""]
    if result.options.form == "raw":
        lines.append(
            "loads in: onnxruntime 1.20 and newer, OpenCV 4.8 and newer (FaceDetectorYN, if it is checked above)"
        )
    elif result.options.form == "rows":
        lines.append("loads in: onnxruntime 1.20 and newer, OpenCV 4.8 and newer (cv2.dnn), converters")
    else:
        lines.append("loads in: onnxruntime 1.20 and newer, OpenCV 5 by its default engine; not in OpenCV 4")
    if result.examples is not None:
        lines.append(f"programs that use such a file: {result.examples}/onnx_*.py")
    return "\n".join(lines)
