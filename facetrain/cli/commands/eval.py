"""`facetrain eval`: how good a detector is, by the official WIDER FACE rules."""

from pathlib import Path
from typing import Annotated

import typer

from facetrain.cli import console
from facetrain.cli.label_flags import CLASSES, FORMAT, TRUST, class_list
from facetrain.core.errors import InputError, UsageError
from facetrain.core.suggest import path_hint

_DATA = "--data FOLDER: WIDER FACE, a labelled set of your own, its label file, or `sample`"

EXAMPLES = """
facetrain eval --data my_faces --weights my_run
facetrain eval --widerface --data data/widerface
facetrain eval --data my_faces -w my_run --against yunet_n --report page
facetrain eval --data sample --at-precision 0.99
"""


def run(
    widerface: Annotated[
        bool, typer.Option("--widerface", help="Easy, medium and hard by the official .mat files below --data.")
    ] = False,
    *,
    data: Annotated[
        str, typer.Option(help="Folder in the WIDER FACE layout, or another labelled set, or its label file.")
    ] = "data/widerface",
    format: FORMAT = None,
    classes: CLASSES = None,
    trust_labels: TRUST = False,
    val: Annotated[
        float | None,
        typer.Option(help="Measure on the images that train --val keeps of a set without a validation part."),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", "-w", help="A name, a file (ONNX or checkpoint) or a run; by default yunet_n."),
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="Detector family of an ONNX file; by default it is recognised.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Measure the result files in this folder, of any detector, instead of weights.")
    ] = None,
    size: Annotated[
        str, typer.Option(help="original, vga, a number such as 640, WxH, or auto: as detect looks.")
    ] = "original",
    score: Annotated[float, typer.Option(help="Detections must score more than this.")] = 0.02,
    nms: Annotated[float, typer.Option(help="Of detections that overlap by a higher IoU only the best stays.")] = 0.45,
    flip: Annotated[bool, typer.Option("--flip", help="Look at the mirrored image too, and merge.")] = False,
    scales: Annotated[str, typer.Option(help="Look at these scales, such as 0.5,1,2, and merge.")] = "1",
    present_only: Annotated[
        bool, typer.Option("--present-only", help="Measure on the images that are there, if some are missing.")
    ] = False,
    ground_truth: Annotated[Path | None, typer.Option(help="Folder of the official .mat files.")] = None,
    at_score: Annotated[float, typer.Option(help="Count misses and false alarms at this score.")] = 0.5,
    at_precision: Annotated[float, typer.Option(help="Find the score threshold for this precision.")] = 0.95,
    against_what: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="WEIGHTS|DIR",
            help="Compare with other weights, or a folder of result files, on the same images.",
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option(help="Draws of the images that the 95 % intervals come from; 0 for none.")
    ] = 2000,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report into this folder.")] = None,
    save_predictions: Annotated[Path | None, typer.Option(help="Write result files into this new folder.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, a GPU's number, or mps (checkpoints).")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads; all that are there by default.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure a detector on WIDER FACE or on your own labelled images."""
    from facetrain.cli.text.eval import evaluation_text
    from facetrain.detect.find_weights import find_weights
    from facetrain.eval.against import against, other_source
    from facetrain.eval.evaluate import Source, evaluate_model
    from facetrain.eval.intervals import check_draws
    from facetrain.eval.protocol import EvalProtocol
    from facetrain.eval.report.write import write_report

    _check_together(predictions, weights, family)
    _check_val(val, widerface=widerface)
    _check_thresholds(at_score, at_precision)
    check_draws(draws)
    chosen = weights or "yunet_n"
    source = Source(chosen, predictions, device, threads, family)
    protocol = EvalProtocol(size=size, score=score, nms=nms, flip=flip, scales=console.parse_scales(scales))
    if predictions is None:
        find_weights(chosen)
    # family is not handed on: it is that of the first file
    other = None if against_what is None else other_source(against_what, protocol, device, threads)
    _check_folders(report, save_predictions)
    if not Path(data).exists() and data != "sample":
        raise InputError(f"--data {data}: no such folder or file", path_hint(Path(data), _DATA))
    with console.interruptible("nothing was measured, and nothing written"):
        with console.progress("images") as advance:
            result = evaluate_model(
                source,
                Path(data),
                protocol,
                widerface=widerface,
                ground_truth=ground_truth,
                present_only=present_only,
                format=format,
                classes=class_list(classes),
                trust_labels=trust_labels,
                val=val,
                save_predictions=save_predictions,
                score=at_score,
                precision=at_precision,
                draws=draws,
                progress=lambda done, total: advance(1, total=total),
                tell=console.say,
            )
        pair = None
        if other is not None:
            with console.progress("images, the other") as advance:
                pair = against(result, source, other, protocol, lambda done, total: advance(1, total=total))
    if report is not None:
        page = write_report(
            report,
            title=f"{predictions or source.weights} on {data}",
            protocol=result.protocol,
            scores=result.scores,
            details=result.details,
            intervals=result.intervals,
            against=pair,
        )
        console.say(f"report: {page}")
    document = result.as_dict() | ({"against": pair.as_dict()} if pair else {})
    console.result(document, evaluation_text(result, pair), as_json=json)


def _check_together(predictions: Path | None, weights: str | None, family: str | None) -> None:
    if predictions is not None and weights is not None:
        raise UsageError("--predictions and --weights exclude each other", "measure one after the other")
    if predictions is not None and family is not None:
        raise UsageError("--predictions and --family exclude each other", "result files have no family")


def _check_val(val: float | None, *, widerface: bool) -> None:
    if val is not None and not 0 < val < 1:
        raise UsageError(f"--val {val:g}: must be above 0 and below 1", "0.1 is a tenth of the images")
    if val is not None and widerface:
        raise UsageError("--val and --widerface exclude each other", "WIDER FACE has a validation part of its own")


def _check_thresholds(at_score: float, at_precision: float) -> None:
    if not 0 <= at_score <= 1:
        raise UsageError(f"--at-score {at_score:g}: must be from 0 to 1")
    if not 0 < at_precision <= 1:
        raise UsageError(f"--at-precision {at_precision:g}: must be above 0 and at most 1", "0.95 is 95 %")


def _check_folders(report: Path | None, save_predictions: Path | None) -> None:
    """Raise UsageError for folders that could not be written in the end: now, and not after all the work."""
    from facetrain.core.files import check_folder
    from facetrain.eval.report.write import check_report_folder

    for flag, folder in (("report", report), ("save_predictions", save_predictions)):
        if folder is not None:
            check_folder(folder, flag)
    if report is not None:
        check_report_folder(report)
        if save_predictions is not None and save_predictions.resolve().is_relative_to(report.resolve()):
            raise UsageError(
                "--save-predictions cannot lie inside the --report folder", "give each a folder of its own"
            )
