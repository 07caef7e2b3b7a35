"""`facetrain detect`: faces in pictures, folders of pictures and patterns."""

from pathlib import Path
from typing import Annotated

import typer

from facetrain.cli import console
from facetrain.core.errors import UsageError


def run(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH", help="Pictures, folders or patterns such as 'photos/*.jpg'.")
    ],
    *,
    weights: Annotated[
        str, typer.Option("--weights", "-w", help="A bundled model's name, an ONNX file or a checkpoint.")
    ] = "yunet_n",
    family: Annotated[
        str | None, typer.Option(help="Detector family of an ONNX file; by default it is recognised.")
    ] = None,
    score: Annotated[float, typer.Option(help="Least score of a face, 0 to 1.")] = 0.5,
    nms: Annotated[float, typer.Option(help="Of faces that overlap by a higher IoU only the best stays.")] = 0.45,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder for the drawn pictures; by default ./detections.")
    ] = None,
    draw: Annotated[
        bool | None,
        typer.Option("--draw/--no-draw", help="Write drawn pictures. By default yes, with --json only with --output."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print boxes and landmarks as JSON.")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, a GPU's number, or mps (checkpoints).")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads; all that are there by default.")] = None,
) -> None:
    """Find faces and draw boxes, scores and landmarks."""
    from facetrain.core.places import check_folder
    from facetrain.detect.load import FaceDetector, check_settings
    from facetrain.detect.output import detect_files, make_output_folder
    from facetrain.detect.sources import Failure, find_sources

    if output == "":
        raise UsageError("--output is empty", "name a folder, or leave it out for ./detections")
    if draw is False and output is not None:
        raise UsageError("--no-draw and --output exclude each other", "leave one of them out")
    drawn = (output is not None or not json) if draw is None else draw
    folder = Path(output or "detections")
    check_settings(score, nms, threads=threads)
    if drawn:
        check_folder(folder, "output")
    found = find_sources(paths, folder, drawn=drawn)
    sources, failures = found.sources, found.failures
    for failure in failures:
        console.say_error(failure.error)
    if found.skipped:
        console.say(found.skipped_text())
    if not sources and any(isinstance(failure.error, UsageError) for failure in failures):
        raise typer.Exit(UsageError.exit_code)
    detector = FaceDetector(weights, device=device, score=score, nms=nms, threads=threads, family=family)
    if sources and drawn:
        make_output_folder(folder)

    images, pictures, faces, before = [], 0, 0, len(failures)
    shown = len(sources) > 1 and (
        json or not console.stdout_is_terminal()
    )  # lines of a result on a terminal tell enough
    with (
        console.interruptible() as interruption,
        console.progress("detect", len(sources), shown=shown) as advance,
    ):
        for outcome in detect_files(detector, sources, draw=drawn):
            if isinstance(outcome, Failure):
                failures.append(outcome)
                console.say_error(outcome.error)
            else:
                pictures, faces = pictures + 1, faces + len(outcome.faces)
                if json:
                    images.append(outcome.as_dict())
                else:
                    console.line(outcome.as_text())
            advance()

    held = max(score, detector.own_threshold)
    summary = f"{console.count(faces, 'face')} in {console.count(pictures, 'picture')}"
    summary += f", drawn in {folder}" if pictures and drawn else ""
    summary += f"; {len(failures)} failed" if failures else ""
    if held > score:
        summary += f"; at score {held:g}, below which the file itself drops faces, not at {score:g}"
    if interruption:
        summary += f"; interrupted, {len(sources) - pictures - len(failures) + before} not looked at"
    document = {
        "weights": weights,
        "score": held,
        "nms": nms,
        "images": images,
        "skipped": [str(path) for path in found.skipped],
        "interrupted": bool(interruption),
        "errors": [console.error_entry(failure.error, failure.path) for failure in failures],
    }
    console.result(document, summary, as_json=json)
    if interruption:
        raise typer.Exit(130)
    if failures:
        raise typer.Exit(1)
